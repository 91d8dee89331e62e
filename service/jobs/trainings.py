"""What trainings report, kept small: thinned series of their metrics, and their latest checkpoints.

A training of a day reports a hundred thousand steps. Every event is read once by a process and merged into its series,
so that looking again costs what is new, however long the training is.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.ports import JobReading
from service.jobs.schema import EventKind, JobEvent
from srr_core.tuners.data_report import Preview

MAX_POINTS = 300
"""Of one series; between half of it and all of it are kept of a long one."""
MAX_CHECKPOINTS = 100
MAX_JOBS = 32
"""Whose series a process remembers; one that was forgotten is read again."""
KINDS: tuple[EventKind, ...] = ("metrics", "checkpoint", "data")
_BATCH = 500
_PLACE = frozenset({"cell", "step"})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class SeriesPoint(_Frozen):
    """Metrics after a step, or the means over several neighbours."""

    step: int = Field(description="The last one of those that were merged.")
    merged: int = Field(description="How many were.")
    values: dict[str, float]


class CellSeries(_Frozen):
    """One training of a grid."""

    cell: int = Field(description="Which one, from 0.")
    learning_rate: float | None = None
    seed: int | None = None
    training: tuple[SeriesPoint, ...] = Field(
        description="`loss`, `learning_rate`, `gradient_norm` and `tokens_per_second` of steps."
    )
    validation: tuple[SeriesPoint, ...] = Field(description="`validation_loss` and other scores of evaluations.")


class Checkpoint(_Frozen):
    """A checkpoint that was made durable; later ones may have taken its place on the worker's disk."""

    cell: int
    step: int
    num_bytes: int
    scores: dict[str, float] = Field(description="Of the evaluation at this step; empty where there was none.")
    is_best: bool = Field(description="Whether it is the best of its training so far.")


class TrainingRecord(_Frozen):
    """What the trainings of a job have told so far."""

    steps: int = 0
    """Of one training, as planned; 0 before that is known."""
    total: int = 0
    """Trainings of the grid."""
    cells: tuple[CellSeries, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    """The latest and the best ones, in order."""
    current: int = 0
    """The training that runs, or ran last."""
    latest: Mapping[str, float] = {}
    """Its last step, as it was told; empty before the first."""
    previews: tuple[Preview, ...] = ()
    data_sha256: str | None = None


class Thinned:
    """A series that never has more than `MAX_POINTS` points: neighbours are merged, twice as many once it is full."""

    def __init__(self) -> None:
        self.points: list[SeriesPoint] = []
        self._stride = 1

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a step; reports of it and of later ones by an attempt that was lost are dropped."""
        while self.points and self.points[-1].step >= step:
            self.points.pop()
        point = SeriesPoint(step=step, merged=1, values={k: v for k, v in values.items() if math.isfinite(v)})
        if self.points and self.points[-1].merged < self._stride:
            point = _merged(self.points.pop(), point)
        self.points.append(point)
        if len(self.points) > MAX_POINTS:
            *pairs, last = [self.points[start : start + 2] for start in range(0, len(self.points), 2)]
            self.points = [_merged(*pair) for pair in pairs] + (last if len(last) == 1 else [_merged(*last)])
            self._stride *= 2


@dataclass
class _Cell:
    training: Thinned = field(default_factory=Thinned)
    validation: Thinned = field(default_factory=Thinned)
    checkpoints: dict[int, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class _Told:
    """What one job has told, up to an event."""

    after: int = 0
    plan: Mapping[str, Any] = field(default_factory=dict)
    cells: dict[int, _Cell] = field(default_factory=dict)
    current: int = 0
    latest: Mapping[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def absorb(self, events: Sequence[JobEvent]) -> None:
        for event in events:
            self.after = event.sequence
            if event.kind == "data":
                self.plan = event.data
            elif event.kind == "checkpoint" and "step" in event.data:
                self._keep(event.data)
            elif event.kind == "metrics":
                for row in event.data.get("rows", ()):
                    self._learn(row)

    def record(self) -> TrainingRecord:
        report = self.plan.get("report", {})
        planned = self.plan.get("cells", ())
        return TrainingRecord(
            steps=int(report.get("steps", 0)),
            total=max(len(planned), *(number + 1 for number in self.cells), 0),
            cells=tuple(_series(number, cell, planned) for number, cell in sorted(self.cells.items())),
            checkpoints=tuple(row for number, cell in sorted(self.cells.items()) for row in _rows(number, cell)),
            current=self.current,
            latest=dict(self.latest),
            previews=tuple(Preview.model_validate(one, extra="ignore") for one in report.get("previews", ())),
            data_sha256=report.get("sha256"),
        )

    def _learn(self, row: Mapping[str, float]) -> None:
        if "step" not in row:
            return
        step, number = int(row["step"]), int(row.get("cell", 0))
        cell = self.cells.setdefault(number, _Cell())
        values = {name: float(value) for name, value in row.items() if name not in _PLACE}
        if number != self.current:
            self.latest = {}
        self.current = number
        if "loss" in values:
            cell.training.add(step, values)
            self.latest = {"step": float(step), **values}
        else:
            cell.validation.add(step, values)

    def _keep(self, data: Mapping[str, Any]) -> None:
        kept = self.cells.setdefault(int(data.get("cell", 0)), _Cell()).checkpoints
        kept[int(data["step"])] = data
        best = _best(kept)
        for step in sorted(kept)[:-MAX_CHECKPOINTS]:
            if step != best:
                del kept[step]


class Trainings:
    """The trainings of jobs that somebody looks at. Safe for threads."""

    def __init__(self, store: JobReading) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._told: OrderedDict[str, _Told] = OrderedDict()

    def of(self, job_id: str) -> TrainingRecord:
        """Return what a job has told by now; nothing for one that trains nothing. Raises JobNotFoundError."""
        told = self._entry(job_id)
        with told.lock:
            while events := self._store.events(job_id, after=told.after, limit=_BATCH, kinds=KINDS):
                told.absorb(events)
            return told.record()

    def _entry(self, job_id: str) -> _Told:
        with self._lock:
            told = self._told.setdefault(job_id, _Told())
            self._told.move_to_end(job_id)
            while len(self._told) > MAX_JOBS:
                self._told.popitem(last=False)
            return told


def _merged(first: SeriesPoint, second: SeriesPoint) -> SeriesPoint:
    count = first.merged + second.merged
    values = {
        name: _mean([(one.values[name], one.merged) for one in (first, second) if name in one.values])
        for name in first.values | second.values
    }
    return SeriesPoint(step=second.step, merged=count, values=values)


def _mean(weighted: Sequence[tuple[float, int]]) -> float:
    return sum(value * weight for value, weight in weighted) / sum(weight for _, weight in weighted)


def _series(number: int, cell: _Cell, planned: Sequence[Mapping[str, Any]]) -> CellSeries:
    chosen = planned[number] if number < len(planned) else {}
    return CellSeries(
        cell=number,
        learning_rate=chosen.get("learning_rate"),
        seed=chosen.get("seed"),
        training=tuple(cell.training.points),
        validation=tuple(cell.validation.points),
    )


def _rows(number: int, cell: _Cell) -> list[Checkpoint]:
    best = _best(cell.checkpoints)
    return [
        Checkpoint(
            cell=number,
            step=step,
            num_bytes=int(data.get("num_bytes", 0)),
            scores={name: value for name, value in data.get("scores", {}).items() if math.isfinite(value)},
            is_best=step == best,
        )
        for step, data in sorted(cell.checkpoints.items())
    ]


def _best(told: Mapping[int, Mapping[str, Any]]) -> int | None:
    return max((step for step, data in told.items() if data.get("is_best")), default=None)
