"""From a seed to everything that is going to happen: which jobs, which faults, at which instants."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

SOURCES = 6
STAGES = ("download", "plan", "compress", "assemble", "verify", "evaluate", "publish")
MEAN_PAUSE_SECONDS = 0.5
_AT_AN_INSTANT = 0.5
_CANCELED, _SENT_TWICE, _BROKEN = 0.07, 0.2, 0.04


@dataclass(frozen=True)
class PlannedJob:
    """One submission."""

    index: int
    source: int
    """Which of the models; the last one cannot be compressed."""
    cancel_after_seconds: float | None
    is_sent_twice: bool

    @property
    def is_broken(self) -> bool:
        """Whether its model cannot be compressed."""
        return self.source == SOURCES

    @property
    def source_id(self) -> str:
        """The repository of its model."""
        return "acme/broken" if self.is_broken else f"acme/pico-{self.source}"

    @property
    def name(self) -> str:
        """The name of its destination, without the owner."""
        return f"out-{self.index:04d}"


@dataclass(frozen=True)
class PlannedFault:
    """One fault: after a pause, and perhaps at the instant at which some job enters a stage."""

    index: int
    name: str
    pause_seconds: float
    stage: str | None
    seed: int
    """Of the fault's own choices."""


@dataclass(frozen=True)
class Plan:
    """What a seed stands for."""

    seed: int
    jobs: tuple[PlannedJob, ...]
    faults: tuple[PlannedFault, ...]


def make_plan(seed: int, *, jobs: int, faults: int, weights: Sequence[tuple[str, int]]) -> Plan:
    """Return the plan of a seed. The same numbers and the same table of faults give the same plan."""
    chance = random.Random(seed)
    planned_jobs = tuple(_job(chance, index) for index in range(jobs))
    names = _names(chance, faults, weights)
    planned_faults = tuple(_fault(chance, index, name) for index, name in enumerate(names))
    return Plan(seed, planned_jobs, planned_faults)


def _names(chance: random.Random, count: int, weights: Sequence[tuple[str, int]]) -> list[str]:
    """Draw from a deck that holds each fault as often as it weighs, so that a long run meets every kind."""
    deck: list[str] = []
    names = []
    for _ in range(count):
        if not deck:
            deck = [name for name, weight in weights for _ in range(weight)]
            chance.shuffle(deck)
        names.append(deck.pop())
    return names


def _job(chance: random.Random, index: int) -> PlannedJob:
    is_broken, is_canceled, is_sent_twice = (chance.random() < share for share in (_BROKEN, _CANCELED, _SENT_TWICE))
    cancel_after = chance.uniform(0.0, 20.0)
    return PlannedJob(
        index=index,
        source=SOURCES if is_broken else chance.randrange(SOURCES),
        cancel_after_seconds=cancel_after if is_canceled else None,
        is_sent_twice=is_sent_twice,
    )


def _fault(chance: random.Random, index: int, name: str) -> PlannedFault:
    pause = min(chance.expovariate(1 / MEAN_PAUSE_SECONDS), 6 * MEAN_PAUSE_SECONDS)
    stage = chance.choice(STAGES) if chance.random() < _AT_AN_INSTANT else None
    return PlannedFault(index, name, pause, stage, chance.getrandbits(32))
