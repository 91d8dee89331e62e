"""Builders of small reports, sources and artifact folders."""

import json
from pathlib import Path
from typing import Any

from service.hub.model import RepoFile, ResolvedModel
from srr_core.recipe import named_recipe
from srr_core.report import (
    BitsPerWeight,
    Environment,
    KeptTensor,
    LayerReport,
    Measurement,
    Report,
    SizeBytes,
    SourceReport,
    TextReport,
)

SHA = "0123456789abcdef0123456789abcdef01234567"
TEXT = TextReport(sequences=2, sequence_length=64, tokens=128, token_sha256="ab" * 32)


def layer(name: str, error: float) -> LayerReport:
    return LayerReport(
        name=name,
        shape=(256, 128),
        rank=32,
        preserved_rank=7,
        iterations=1,
        output_error=error,
        output_error_quantized_only=2 * error,
        scaled_error=error,
        weight_error=error,
        correction_ratio=0.5,
        bits_per_weight=4.25,
        calibration_tokens=128,
        seconds=0.1,
    )


def report(recipe: str = "srr", **changes: Any) -> Report:
    values: dict[str, Any] = {
        "source": SourceReport(id="acme/base", sha=SHA, architecture="LlamaForCausalLM", dtype="bfloat16"),
        "recipe": named_recipe(recipe),
        "bits_per_weight": BitsPerWeight(quantized=3.25, low_rank=1.0, total=4.25, stored=4.5),
        "size_bytes": SizeBytes(source=13_000_000, compressed=5_100_000),
        "mean_output_error": 0.0675,
        "measurements": (
            Measurement(
                evaluator="perplexity",
                metric="token_perplexity@64",
                title="Perplexity per token",
                unit="",
                direction="lower",
                protocol="disjoint windows of 64 tokens",
                source=37.04,
                compressed=37.95,
                tokens=126,
                text=TEXT,
            ),
        ),
        "calibration": TEXT,
        "layers": tuple(layer(f"model.layers.{index}.mlp.up_proj", 0.01 * (index + 1)) for index in range(12)),
        "kept": (KeptTensor(name="lm_head.weight", reason="output head"),),
        "environment": Environment(
            core_version="1.0.0",
            versions={"torch": "2.13.0", "peft": "0.21.2"},
            device="cpu",
            threads=1,
            peak_memory_bytes=1,
        ),
        "seconds": {"compress": 1.0},
    }
    return Report(**{**values, **changes})


def source(**changes: Any) -> ResolvedModel:
    values: dict[str, Any] = {
        "model_id": "acme/base",
        "sha": SHA,
        "private": False,
        "gated": False,
        "files": (RepoFile("model.safetensors", 10),),
        "license": "apache-2.0",
        "languages": ("en",),
        "url": "https://hub.example/acme/base",
    }
    return ResolvedModel(**{**values, **changes})


def write_artifact(folder: Path, made: Report, *, quant_method: str = "compressed-tensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "adapter_model.safetensors").write_bytes(b"factors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": quant_method}}))
    (folder / "report.json").write_text(made.model_dump_json())
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "alice/out"}))
    (folder / "recipe.json").write_text(made.recipe.model_dump_json())
    return folder
