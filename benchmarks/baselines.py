"""What baselines cost beside the stage they share statistics with, as a share of it, and what a layer of them costs.

    python -m benchmarks.baselines [WIDTH]

Without a width, `srr` on the bundled model; with one, on a random Llama block of that width, because a decomposition
grows with the cube of it. A ratio of two stages of one run, so that other work on the machine concerns both.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.memory import checkpoint
from examples import CALIBRATION_TEXT, DEMO_MODEL, EVALUATION_TEXT
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, override
from srr_core.report import Report

WINDOWS, LENGTH = 32, 256
CHANGES = {
    "baselines": ["weight-only", "gptq"],
    "calibration": {"num_sequences": WINDOWS, "sequence_length": LENGTH, "batch_size": 4},
    "evaluation": {"num_sequences": 2, "sequence_length": LENGTH, "batch_size": 2},
    "evaluation.evaluators": [{"kind": "divergence", "num_sequences": 2}],
}


def run(model: Path) -> Report:
    """Compress a model with both baselines beside it."""
    with tempfile.TemporaryDirectory() as folder:
        return compress(
            model,
            override(PRESETS["srr"], CHANGES),
            Path(folder) / "artifact",
            calibration_text=CALIBRATION_TEXT,
            evaluation_text=EVALUATION_TEXT,
        )


def main(widths: list[int]) -> None:
    """Print one row for the bundled model, or for a block of each width."""
    if not widths:
        print(row("bundled model", run(DEMO_MODEL)))
    for width in widths:
        with tempfile.TemporaryDirectory() as folder:
            heads = {"num_attention_heads": width // 64, "num_key_value_heads": width // 64}
            shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 1}
            print(row(f"one block of {width}", run(checkpoint(Path(folder), **shape, **heads))))


def row(name: str, report: Report) -> str:
    """Return the shares of one run."""
    stages = report.seconds
    share = stages["baselines"] / stages["compress"]
    whole = stages["baselines"] / (stages["calibrate"] + stages["compress"])
    each = ", ".join(f"{one.recipe.name} {one.seconds / stages['compress']:.0%}" for one in report.baselines)
    return f"{name}: {share:.0%} of the stage compress ({each} in their layers), {whole:.0%} with calibrate"


if __name__ == "__main__":
    main([int(value) for value in sys.argv[1:]])
