"""Small starts on disk for the tests of this room."""

import json
from pathlib import Path

import torch

from srr_core.pipeline import compress
from srr_core.recipe.tuning import (
    ArtifactStart,
    BatchSpec,
    DataSpec,
    LoRAStart,
    OptimizerSpec,
    ScheduleSpec,
    TuningSpec,
    named_start,
)
from srr_core.tuners.classifier import Labels
from srr_core.tuners.start import write_base, write_start
from tests.pico import WINDOW, build_checkpoint, write_text

CALIBRATION = {"num_sequences": 4, "sequence_length": WINDOW, "batch_size": 2}
RANK = 4


def source(folder: Path, architecture: str = "LlamaForCausalLM", **changes) -> Path:
    """A 16-bit checkpoint, float32 so that nothing but the compression rounds."""
    return build_checkpoint(folder / "source", architecture, dtype=torch.float32, **changes)


def begin(
    checkpoint: Path, folder: Path, name: str, *, quantizer=None, rank=RANK, labels: Labels | None = None, seed=0
):
    """Return (start folder, facts, what the start was made of) of a named start."""
    folder.mkdir(parents=True, exist_ok=True)
    changes = None if name == "lora" else {f"calibration.{key}": value for key, value in CALIBRATION.items()}
    start = named_start(name, quantizer=quantizer, rank=rank, changes=changes)
    made = checkpoint
    if not isinstance(start, LoRAStart):
        made = folder / "compressed"
        text = write_text(folder / "calibration.txt")
        compress(checkpoint, start.recipe, made, calibration_text=text, model_id="pico")
    (folder / "base").mkdir()
    (folder / "start").mkdir()
    facts = write_base(made, folder / "base", labels=labels)
    write_start(folder / "base", folder / "start", facts, rank=rank, seed=seed)
    return folder / "start", facts, made


def going_on(**changes) -> TuningSpec:
    """A short fine-tuning that goes on with the L·R of a result."""
    fields = {
        "start": ArtifactStart(),
        "data": DataSpec(window=64),
        "batch": BatchSpec(size=4),
        "schedule": ScheduleSpec(epochs=2),
        "optimizer": OptimizerSpec(learning_rate=1e-2),
    }
    return TuningSpec(**{**fields, **changes})


def write_rows(file: Path, rows) -> Path:
    """Write rows as JSON lines; return the file."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file
