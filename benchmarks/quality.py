"""Every recipe on the bundled model: perplexity, output error, share of layers better than QERA-exact, seconds.

    python -m benchmarks.quality [--calibration-text FILE] [--evaluation-text FILE] [RECIPE ...]

The texts are the bundled ones unless others are given.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean

from examples import CALIBRATION_TEXT, DEMO_MODEL, EVALUATION_TEXT
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, Recipe, override
from srr_core.report import Report

WINDOW = 256
WINDOWS = 128
RANK = 16
MX4 = {"num_bits": 4, "block_size": 32}
MX3 = {"num_bits": 3, "block_size": 32}
MX2 = {"num_bits": 2, "block_size": 16}
INTEGER_GROUPS = {128: (4,), 64: (4, 8, RANK), 32: (RANK,)}
"""Group size of GPTQ's integer grid -> ranks of srr-gptq; at width 256 one rank costs 0.10 bits per weight."""


def variants() -> list[tuple[str, Recipe]]:
    """Return every row of the table: each recipe at 4, 3 and 2 bits, and GPTQ at sizes comparable with it."""
    rows = []
    for bits, mxint in ((4, MX4), (3, MX3), (2, MX2)):
        for name, recipe in PRESETS.items():
            if recipe.quantizer.kind == "mxint":
                rows.append((f"{name}, MXINT{bits}", override(recipe, {"quantizer": {**mxint, "kind": "mxint"}})))
        rows.append(
            (f"srr-max, MXINT{bits}", override(PRESETS["srr-max"], {"quantizer": {"grid": {**mxint, "kind": "mxint"}}}))
        )
        for group, ranks in INTEGER_GROUPS.items():
            # With zero points, which at two bits are worth more than their bits; the presets' own grid has none.
            integers = {"kind": "integer", "num_bits": bits, "group_size": group, "symmetric": False}
            grid = {"quantizer": {"grid": integers}}
            rows.append((f"gptq, int{bits} g{group}", override(PRESETS["gptq"], grid)))
            rows += [
                (f"srr-gptq, int{bits} g{group}, r {rank}", override(PRESETS["srr-gptq"], {**grid, "rank": rank}))
                for rank in ranks
            ]
            exact = override(PRESETS["qera-exact"], {**grid, "quantizer": {"kind": "gptq", **grid["quantizer"]}})
            plain = override(PRESETS["srr"], {"quantizer": {"kind": "integer", "num_bits": bits, "group_size": group}})
            rows.append((f"srr, int{bits} g{group}, r {RANK}", plain))
            rows.append((f"qera-exact on gptq, int{bits} g{group}, r {RANK}", exact))
    return rows + [
        (f"{name}, {bits} bit", override(PRESETS[name], {"quantizer.num_bits": bits}))
        for bits in (4, 3, 2)
        for name in ("quip-sharp", "srr-quip-sharp")
    ]


def run(recipe: Recipe, calibration: Path, evaluation: Path) -> Report:
    """Compress the bundled model once."""
    windows = {
        "calibration": {"num_sequences": WINDOWS, "sequence_length": WINDOW, "batch_size": 16},
        "evaluation": {"num_sequences": 200, "sequence_length": WINDOW, "batch_size": 8},
    }
    changed = override(recipe, windows)
    if recipe.rank and recipe.rank not in (4, 8):
        changed = override(changed, {"rank": RANK})
    with tempfile.TemporaryDirectory() as folder:
        return compress(
            DEMO_MODEL,
            changed,
            Path(folder) / "artifact",
            model_id="examples/tiny-llama",
            calibration_text=calibration,
            evaluation_text=evaluation,
        )


def main() -> None:
    """Print the table as Markdown, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibration-text", type=Path, default=CALIBRATION_TEXT)
    parser.add_argument("--evaluation-text", type=Path, default=EVALUATION_TEXT)
    parser.add_argument("recipes", nargs="*", help="only rows whose name begins with one of these")
    given = parser.parse_args()
    reference: dict[int, Report] = {}
    print("| recipe | bits, L·R counted | perplexity | divergence | err | layers better than qera-exact | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, recipe in variants():
        bits = recipe.quantization_bits
        is_reference = name.startswith("qera-exact, MXINT")
        if given.recipes and not is_reference and not name.startswith(tuple(given.recipes)):
            continue
        report = run(recipe, given.calibration_text, given.evaluation_text)
        if is_reference:
            reference[bits] = report
        print(row(name, report, reference.get(bits)), flush=True)


def row(name: str, report: Report, reference: Report | None) -> str:
    """Return one line of the table."""
    share = "–"
    if reference is not None and reference is not report:
        pairs = zip(report.layers, reference.layers, strict=True)
        share = f"{100 * fmean(mine.output_error < other.output_error for mine, other in pairs):.0f} %"
    measured = {row.evaluator: row.compressed for row in reversed(report.measurements)}
    perplexity, divergence = measured["perplexity"], measured["divergence"]
    seconds = report.seconds["calibrate"] + report.seconds["compress"]
    return (
        f"| {name} | {report.bits_per_weight.total:.2f} | {perplexity:.2f} | {divergence:.4f} "
        f"| {report.mean_output_error:.4f} | {share} | {seconds:.1f} |"
    )


if __name__ == "__main__":
    main()
