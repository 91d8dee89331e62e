"""The smallest model that passes every check before a job: real headers, weights of zeros, no torch."""

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

CONFIG: Mapping[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32}
SHAPES: Mapping[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (64, 32),
    "model.layers.0.self_attn.q_proj.weight": (32, 32),
    "model.layers.0.mlp.up_proj.weight": (64, 32),
    "model.layers.1.self_attn.q_proj.weight": (32, 32),
    "model.layers.1.mlp.up_proj.weight": (64, 32),
}


def safetensors(shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> bytes:
    """Return a safetensors file of 16-bit zeros."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def model_files(*, card: str = "", **config: object) -> dict[str, bytes]:
    """Return the files of a model; keyword arguments replace fields of its configuration."""
    files = {"config.json": json.dumps({**CONFIG, **config}).encode(), "model.safetensors": safetensors()}
    return files | ({"README.md": card.encode()} if card else {})


def write_model(folder: Path, *, card: str = "", **config: object) -> Path:
    """Write a model folder and return it."""
    folder.mkdir(parents=True)
    for name, content in model_files(card=card, **config).items():
        (folder / name).write_bytes(content)
    return folder


def write_tuned(folder: Path, *, kept: int) -> Path:
    """Write what a fine-tuning would publish, with the checkpoint after a number of steps, and return the folder."""
    write_model(folder)
    (folder / "tuning.json").write_text("{}")
    checkpoint = folder / f"checkpoints/step-{kept:08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_model.safetensors").write_bytes(safetensors({}))
    return folder


def artifact_files(*, card: str = "", report: Mapping[str, Any] | None = None, **config: object) -> dict[str, bytes]:
    """Return the files of what passes for an artifact of ours, as far as it is looked at before a job."""
    marker = {"quant_method": "compressed-tensors", "srr": {"version": 1}}
    files = model_files(card=card, quantization_config=marker, **config)
    return files | ({"report.json": json.dumps(report).encode()} if report is not None else {})
