"""Two models on one device, turn by turn, each time alone in a process; medians of what the turns say."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from srr_core.errors import EvaluationError
from srr_core.evaluators.speed.probe import ProbeFacts, ProbeOptions

PROTOCOL = (
    "{rounds} rounds, the models by turns, each alone in a process; medians. Loading: from files the system may have "
    "cached to a model ready on the device. Memory: what the process grew by ({memory}). Prefill: {prompt} tokens a "
    "sequence; decode: {new} tokens after them, greedy, one at a time; dtype {dtype}; {threads} threads on {device}"
)
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class SpeedComparison:
    """Medians over rounds; the keys of both are the same: load_seconds, resident_bytes, prefill@1, decode@16, ..."""

    source: dict[str, float]
    """Empty where there is none."""
    compressed: dict[str, float]
    spread: dict[str, float]
    """Half of the range of a round's ratio compressed / source, which says how far to trust it."""


def compare_speed(
    source: Path | None,
    compressed: Path,
    device: torch.device,
    options: ProbeOptions,
    *,
    rounds: int,
    after_turn: Callable[[], None] | None = None,
) -> SpeedComparison:
    """Measure both models on this device. Cost: `2 * rounds` starts of Python, torch and the model.

    Only one model is in memory at a time. On a machine that does other work the medians drift together, because
    the turns are interleaved; the ratio is what to trust.

    Args:
        after_turn: Called while a turn runs and after it; may raise, which ends the turn.
    Raises:
        EvaluationError: a model cannot be run; the message has the last line it said.
    """
    before: list[dict[str, float]] = []
    after: list[dict[str, float]] = []
    for _ in range(rounds):
        if source is not None:
            before.append(_flat(_turn(source, device, options, after_turn)))
        after.append(_flat(_turn(compressed, device, options, after_turn)))
    ratios = {
        name: [mine[name] / its[name] for mine, its in zip(after, before, strict=True) if its.get(name)]
        for name in after[0]
        if before
    }
    return SpeedComparison(
        source=_medians(before),
        compressed=_medians(after),
        spread={name: (max(values) - min(values)) / 2 for name, values in ratios.items() if values},
    )


def describe_protocol(device: torch.device, options: ProbeOptions, *, rounds: int) -> str:
    """Return one sentence that says exactly what the numbers are."""
    is_gpu = device.type == "cuda"
    return PROTOCOL.format(
        rounds=rounds,
        memory="allocated on the GPU" if is_gpu else "resident set, after the first forward pass",
        prompt=options.prompt_tokens,
        new=options.new_tokens,
        dtype=options.dtype or "of each model",
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if is_gpu else "the CPU",
    )


def _turn(
    directory: Path, device: torch.device, options: ProbeOptions, after_turn: Callable[[], None] | None
) -> ProbeFacts:
    request = {
        "directory": str(directory.resolve()),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "options": asdict(options),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "srr_core.evaluators.speed.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        try:
            answer, said = _answer(process, json.dumps(request), after_turn)
        except BaseException:
            process.kill()
            raise
    lines: Sequence[str] = said.strip().splitlines()
    if process.returncode != 0:
        last = lines[-1] if lines else f"ended with code {process.returncode}"
        raise EvaluationError(f"the speed of {directory.name} cannot be measured: {last[:300]}")
    return ProbeFacts(**json.loads(answer.strip().splitlines()[-1]))


def _answer(process: subprocess.Popen[str], request: str, after_turn: Callable[[], None] | None) -> tuple[str, str]:
    pending: str | None = request
    while True:
        try:
            return process.communicate(pending, timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            pending = None  # communicate keeps what it was given
            if after_turn is not None:
                after_turn()


def _medians(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: median(turn[name] for turn in turns) for name in turns[0]} if turns else {}


def _flat(facts: ProbeFacts) -> dict[str, float]:
    fixed = {"load_seconds": facts.load_seconds, "resident_bytes": float(facts.resident_bytes)}
    return {**fixed, **facts.tokens_per_second}
