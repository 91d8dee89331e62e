"""What baselines cost beside the stage they share statistics with, as a share of it, and what a layer of them costs.

    python -m benchmarks.baselines [--recipe NAME ...] [WIDTH ...]

Without a width, on the bundled model; with one, on a random Llama block of that width, because a decomposition grows
with the cube of it. Unless others are given, the recipes are `srr`, which takes seconds, and those that name baselines
by default. A ratio of two stages of one run, so that other work on the machine concerns both.
"""

import argparse
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
CODES = ("search", "calibrate", "learn", "compress")
"""The stages in which a recipe finds its codes."""


def run(model: Path, recipe: str) -> Report:
    """Compress a model with both baselines beside it."""
    with tempfile.TemporaryDirectory() as folder:
        return compress(
            model,
            override(PRESETS[recipe], CHANGES),
            Path(folder) / "artifact",
            calibration_text=CALIBRATION_TEXT,
            evaluation_text=EVALUATION_TEXT,
        )


def main() -> None:
    """Print one row for each recipe on the bundled model, or on a block of each width."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines")
    parser.add_argument("widths", nargs="*", type=int)
    usual = ["srr", *(name for name, recipe in PRESETS.items() if recipe.baselines)]
    parser.add_argument("--recipe", nargs="+", dest="recipes", choices=PRESETS, default=usual)
    given = parser.parse_args()
    for recipe in given.recipes:
        if not given.widths:
            print(row(f"{recipe}, bundled model", run(DEMO_MODEL, recipe)), flush=True)
        for width in given.widths:
            with tempfile.TemporaryDirectory() as folder:
                heads = {"num_attention_heads": width // 64, "num_key_value_heads": width // 64}
                shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 1}
                source = checkpoint(Path(folder), **shape, **heads)
                print(row(f"{recipe}, one block of {width}", run(source, recipe)), flush=True)


def row(name: str, report: Report) -> str:
    """Return the shares of one run."""
    stages = report.seconds
    share = stages["baselines"] / stages["compress"]
    whole = stages["baselines"] / sum(stages.get(stage, 0) for stage in CODES)
    each = ", ".join(f"{one.recipe.name} {one.seconds / stages['compress']:.0%}" for one in report.baselines)
    return f"{name}: {share:.0%} of the stage compress ({each} in their layers), {whole:.0%} of {', '.join(CODES)}"


if __name__ == "__main__":
    main()
