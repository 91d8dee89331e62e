"""Reports made by hand, for words and pictures to be told from."""

from typing import Any

from srr_core.recipe import named_recipe
from srr_core.report import (
    BaselineReport,
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

TEXT = TextReport(sequences=2, sequence_length=64, tokens=128, token_sha256="ab" * 32)
LAYERS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
SIZE = 5_000_000


def measured(value: float, error: float | None = 0.0002, evaluator: str = "divergence") -> Measurement:
    return Measurement(
        evaluator=evaluator,
        metric=f"{evaluator}@64",
        title="A metric",
        unit="nats per token",
        direction="lower",
        source=0.0 if evaluator == "divergence" else 37.0,
        compressed=value,
        standard_error=error,
        protocol="two windows",
        tokens=126,
        text=TEXT,
    )


def baseline(
    name: str, value: float, *, gap: float, error: float | None = 0.0001, size_bytes: int = SIZE
) -> BaselineReport:
    return BaselineReport(
        recipe=named_recipe(name),
        bits_per_weight=4.25,
        size_bytes=size_bytes,
        mean_output_error=0.05,
        measurements=(measured(value), measured(38.5, evaluator="perplexity")),
        divergence_gap=gap,
        divergence_gap_error=error,
        seconds=1.0,
    )


def layer(name: str, error: float = 0.05, **changes: Any) -> LayerReport:
    values: dict[str, Any] = {
        "name": name,
        "shape": (256, 128),
        "rank": 4,
        "preserved_rank": 2,
        "iterations": 1,
        "output_error": error,
        "output_error_quantized_only": 2 * error,
        "scaled_error": error,
        "weight_error": error,
        "correction_ratio": 0.5,
        "bits_per_weight": 3.25 + 16 * 4 * (256 + 128) / (256 * 128),
        "calibration_tokens": 4096,
        "seconds": 0.1,
    }
    return LayerReport(**{**values, **changes})


def report(**changes: Any) -> Report:
    layers = tuple(layer(f"model.layers.{block}.{kind}") for block in range(6) for kind in LAYERS)
    low_rank = 16 * 4 * (256 + 128) / (256 * 128)
    values: dict[str, Any] = {
        "source": SourceReport(id="acme/base", architecture="LlamaForCausalLM", dtype="bfloat16"),
        "recipe": named_recipe("srr"),
        "bits_per_weight": BitsPerWeight(
            quantized=3.25, low_rank=low_rank, total=3.25 + low_rank, stored=3.25 + low_rank
        ),
        "size_bytes": SizeBytes(source=13_000_000, compressed=SIZE),
        "mean_output_error": 0.05,
        "measurements": (measured(0.0127), measured(38.0, evaluator="perplexity")),
        "calibration": TEXT,
        "layers": layers,
        "baselines": (
            baseline("weight-only", 0.0753, gap=0.0127 - 0.0753),
            baseline("gptq", 0.0187, gap=0.0127 - 0.0187),
        ),
        "kept": (KeptTensor(name="lm_head.weight", reason="output head"),),
        "environment": Environment(core_version="1", versions={}, device="cpu", threads=1, peak_memory_bytes=1),
        "seconds": {"compress": 1.0},
    }
    return Report(**{**values, **changes})
