"""Every recipe for compression at one setting of 3 bits: divergence from the source, perplexity and bits.

    python -m benchmarks.recipes [MODEL] [--calibration-text FILE] [--evaluation-text FILE] [--recipe NAME ...]

MODEL is a folder; without one it is the bundled model. L·R has rank 16 where a recipe names no rank of its own, grids
are those of the recipes with 3 bits, and a budget has 3.3 bits per weight in all. No times: run it beside other work.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples import CALIBRATION_TEXT, DEMO_MODEL, EVALUATION_TEXT
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, Recipe, override
from srr_core.report import Report
from srr_core.telling.sizes import bits_of_model

WINDOW = 256
CALIBRATION_WINDOWS, EVALUATION_WINDOWS, COMPARED_WINDOWS = 128, 200, 50
NUM_BITS = 3
RANK = 16
OWN_RANK = ("srr-learned", "srr-fast", "srr-best")


def rows(names: list[str]) -> Iterator[Recipe]:
    """Yield every recipe at its setting; a preset keeps its grid and its options, but for bits and rank."""
    for name, preset in PRESETS.items():
        if names and name not in names:
            continue
        path = ".".join(("quantizer", *preset.quantizer.grid_path, "num_bits"))
        changes: dict[str, Any] = {} if preset.budget is not None else {path: NUM_BITS}
        if preset.rank and name not in OWN_RANK:
            changes["rank"] = RANK
        yield override(preset, changes)


def run(model: Path, recipe: Recipe, calibration: Path, evaluation: Path) -> Report:
    """Compress the model once, and measure what was written."""
    windows = {
        "calibration": {"num_sequences": CALIBRATION_WINDOWS, "sequence_length": WINDOW, "batch_size": 16},
        "evaluation": {"num_sequences": EVALUATION_WINDOWS, "sequence_length": WINDOW, "batch_size": 8},
        "evaluation.evaluators": [{"kind": "divergence", "num_sequences": COMPARED_WINDOWS}, {"kind": "perplexity"}],
        "baselines": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        return compress(
            model,
            override(recipe, windows),
            Path(folder) / "artifact",
            model_id=model.name,
            calibration_text=calibration,
            evaluation_text=evaluation,
        )


def line(report: Report) -> str:
    """Return one line of the table."""
    measured = {row.metric.partition("@")[0]: row for row in report.measurements}
    divergence, perplexity = measured["divergence"], measured["token_perplexity"]
    bits, whole = report.bits_per_weight, bits_of_model(report)
    cells = (
        report.recipe.name,
        report.recipe.quantizer.kind,
        str(max((layer.rank for layer in report.layers), default=0)),
        f"{bits.total:.2f}",
        "–" if whole is None else f"{whole:.2f}",
        f"{divergence.compressed:.4f} ± {divergence.standard_error or 0:.4f}",
        f"{measured['top1_agreement'].compressed:.3f}",
        f"{perplexity.compressed:.2f}",
        f"{report.mean_output_error:.4f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table as Markdown, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=DEMO_MODEL)
    parser.add_argument("--calibration-text", type=Path, default=CALIBRATION_TEXT)
    parser.add_argument("--evaluation-text", type=Path, default=EVALUATION_TEXT)
    parser.add_argument("--recipe", dest="recipes", action="append", default=[], help="only this one; may be repeated")
    given = parser.parse_args()
    print("| recipe | codes | rank | bits, L·R counted | bits of the whole model | KL | top-1 agreement | ppl | err |")
    print("|---|---|---|---|---|---|---|---|---|")
    for recipe in rows(given.recipes):
        print(line(run(given.model, recipe, given.calibration_text, given.evaluation_text)), flush=True)


if __name__ == "__main__":
    main()
