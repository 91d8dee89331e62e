"""Quality at equal size: KL and perplexity of every row of a class of total bits, over several calibration texts.

    python -m benchmarks.frontier [--class 2|3|4] [--text FILE ...] [--evaluation-text FILE] [ROW ...]
                                  [--with-peers [NAME ...]] [--only-peers] [--environments FOLDER] [--peer ...]

Rows are recipes of ours, and peers. A peer runs in a virtual environment of its own, made once and kept in
`--environments`, on the same windows of token ids and the same layers, and leaves the dense model that its codes stand
for. One that cannot be installed or run is a row that says why. `--peer NAME=BITS=FOLDER` takes such a model made
elsewhere, with its total bits, scales and zero points counted, into the table of the class nearest to them. Every
number is of the same windows, source and evaluator.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import torch

from benchmarks.peers import PEERS
from benchmarks.peers.environments import PeerError, default_folder
from benchmarks.peers.peer import Peer, quantized
from examples import CALIBRATION_TEXT, DEMO_MODEL, EVALUATION_TEXT
from srr_core.calibration.dataset import cut_windows, load_tokenizer
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CalibrationError, EvaluationError, SrrError
from srr_core.evaluators.tokens import score_tokens
from srr_core.models.architecture import Architecture
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import plan_layers
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, Recipe, override
from srr_core.report import Report

WINDOW = 256
CALIBRATION_WINDOWS, EVALUATION_WINDOWS, COMPARED_WINDOWS = 128, 200, 50
CLASSES: Mapping[int, float] = {2: 2.56, 3: 3.15, 4: 4.16}
"""Bits of the weights -> total bits: those of integers in groups of 32 at 2 bits and of 128 at 3 and 4."""
_DIGITS = (("divergence", 4), ("perplexity", 2))
GROUPS: Mapping[int, int] = {2: 32, 3: 128, 4: 128}


@dataclass(frozen=True)
class Score:
    """One run of one row."""

    bits: float
    divergence: float
    perplexity: float
    seconds: float


def rows(bits: int) -> Iterator[tuple[str, Recipe]]:
    """Yield our rows of a class; a budget chooses among two and three bit widths around it."""
    grid = {"kind": "integer", "num_bits": bits, "group_size": GROUPS[bits]}
    plain = {"rank": 0, "quantizer": grid}
    yield "round to nearest", override(PRESETS["weight-only"], plain)
    yield "gptq", override(PRESETS["gptq"], {"quantizer.grid": {**grid, "symmetric": False}})
    learned = {"kind": "learned", "grid": grid}
    yield "learned", override(PRESETS["weight-only"], {"quantizer": learned, "scaling.kind": "autocorrelation"})
    choices = sorted({bits, min(bits + 1, 8), min(bits + 2, 8)} | ({bits - 1} if bits > 2 else set()))
    budget = {"target_bits": CLASSES[bits], "num_bits": choices}
    yield "srr-fast", override(PRESETS["srr-fast"], {f"budget.{name}": value for name, value in budget.items()})
    changes = {f"budget.{name}": value for name, value in budget.items()}
    yield "srr-best", override(PRESETS["srr-best"], {**changes, "budget.group_sizes": [32, 64, 128]})


def run(recipe: Recipe, calibration: Path, evaluation: Path) -> Score:
    """Compress the bundled model once."""
    windows = {
        "calibration": {"num_sequences": CALIBRATION_WINDOWS, "sequence_length": WINDOW},
        "evaluation": {"num_sequences": EVALUATION_WINDOWS, "sequence_length": WINDOW},
    }
    compared = {"kind": "divergence", "num_sequences": COMPARED_WINDOWS}
    changed = override(recipe, {**windows, "evaluation.evaluators": [compared, {"kind": "perplexity"}]})
    with tempfile.TemporaryDirectory() as folder:
        report = compress(
            DEMO_MODEL,
            changed,
            Path(folder) / "artifact",
            model_id="examples/tiny-llama",
            calibration_text=calibration,
            evaluation_text=evaluation,
        )
    return _score(report)


def _score(report: Report) -> Score:
    values = {row.evaluator: row.compressed for row in reversed(report.measurements)}
    seconds = sum(value for stage, value in report.seconds.items() if stage not in ("evaluate", "verify"))
    return Score(report.bits_per_weight.stored, values["divergence"], values["perplexity"], seconds)


def measured(folder: Path, evaluation: Path, bits: float) -> Score:
    """Measure the dense model that a peer's codes stand for, in the same windows."""
    tokenizer = load_tokenizer(DEMO_MODEL)
    windows = cut_windows(
        evaluation, tokenizer, num_sequences=EVALUATION_WINDOWS, sequence_length=WINDOW, error=EvaluationError
    )
    scores = score_tokens(_model(DEMO_MODEL), _model(folder), windows, batch_size=8, num_paired=COMPARED_WINDOWS)
    perplexity = math.exp(float(scores.compressed_losses.double().mean()))
    return Score(bits, float(scores.divergences.double().mean()), perplexity, math.nan)


def peer_line(peer: Peer, bits: int, texts: Sequence[Path], evaluation: Path, environments: Path) -> str:
    """Run a peer on each text and return its line, or the line that says why there is none."""
    used = texts if peer.is_calibrated else texts[:1]
    try:
        return line(peer.title, [_peer_score(peer, bits, text, evaluation, environments) for text in used])
    except (PeerError, SrrError) as error:
        return f"| {peer.title} | – | – | did not run: {error} | – |"


def _peer_score(peer: Peer, bits: int, calibration: Path, evaluation: Path, environments: Path) -> Score:
    architecture, weights = Architecture(DEMO_MODEL), CheckpointReader(DEMO_MODEL)
    windows = cut_windows(
        calibration,
        load_tokenizer(DEMO_MODEL),
        num_sequences=CALIBRATION_WINDOWS,
        sequence_length=WINDOW,
        error=CalibrationError,
    )
    with tempfile.TemporaryDirectory() as folder:
        answer = quantized(
            peer,
            bits,
            source=DEMO_MODEL,
            layers=[layer.name for layer in plan_layers(architecture, weights.entries).layers],
            windows=windows.ids.tolist(),
            environments=environments,
            output=Path(folder) / "dense",
        )
        return replace(measured(answer.folder, evaluation, answer.bits), seconds=answer.seconds)


def _model(folder: Path) -> BlockwiseModel:
    architecture, weights = Architecture(folder), CheckpointReader(folder)
    return BlockwiseModel(architecture, weights, plan_layers(architecture, weights.entries), torch.device("cpu"))


def line(name: str, scores: list[Score]) -> str:
    """Return one line of the table: means, and the spread over calibration texts."""

    def mean(values: list[float], digits: int) -> str:
        spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{fmean(values):.{digits}f}{spread}"

    bits, seconds = fmean(score.bits for score in scores), fmean(score.seconds for score in scores)
    divergence, perplexity = (mean([getattr(score, name) for score in scores], digits) for name, digits in _DIGITS)
    time = "–" if math.isnan(seconds) else f"{seconds:.0f}"
    return f"| {name} | {bits:.2f} | {divergence} | {perplexity} | {time} |"


def main(arguments: Sequence[str] | None = None, *, peers: Mapping[str, Peer] = PEERS) -> None:
    """Print the table as Markdown, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--class", dest="classes", type=int, action="append", choices=sorted(CLASSES))
    parser.add_argument("--text", type=Path, action="append", help="to calibrate on; may be repeated")
    parser.add_argument("--evaluation-text", type=Path, default=EVALUATION_TEXT)
    parser.add_argument("--with-peers", nargs="*", choices=list(peers), metavar="NAME", help="these peers, or all")
    parser.add_argument("--only-peers", action="store_true", help="leave our rows out")
    parser.add_argument("--environments", type=Path, default=default_folder(), help="where theirs are made and kept")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=BITS=FOLDER")
    parser.add_argument("rows", nargs="*", help="only these of ours")
    given = parser.parse_args(arguments)
    texts: list[Path] = given.text or [CALIBRATION_TEXT]
    chosen = [] if given.with_peers is None else [peers[name] for name in given.with_peers or peers]
    parts = [text.split("=", 2) for text in given.peer]
    made = [(name, float(total), Path(folder)) for name, total, folder in parts]
    for bits in given.classes or sorted(CLASSES):
        print(f"\n{bits} bits, {CLASSES[bits]} in all\n\n| row | bits | KL | perplexity | seconds |")
        print("|---|---|---|---|---|")
        for name, recipe in rows(bits):
            if not given.only_peers and (not given.rows or name in given.rows):
                print(line(name, [run(recipe, text, given.evaluation_text) for text in texts]), flush=True)
        for peer in chosen:
            print(peer_line(peer, bits, texts, given.evaluation_text, given.environments), flush=True)
        for name, total, folder in made:
            if min(CLASSES, key=lambda each: abs(CLASSES[each] - total)) == bits:
                print(line(name, [measured(folder, given.evaluation_text, total)]), flush=True)


if __name__ == "__main__":
    main()
