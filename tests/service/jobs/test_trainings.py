"""Series of trainings: small however long they are, read once, right after an attempt that was lost."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import EventKind, Job, JobEvent, Lease
from service.jobs.trainings import MAX_CHECKPOINTS, MAX_POINTS, Thinned, Trainings
from tests.service import finished


class CountingStore(MemoryJobStore):
    """A store that counts the events it has handed out."""

    handed_out = 0

    def events(
        self, job_id: str, *, after: int = 0, limit: int = 500, kinds: Collection[EventKind] | None = None
    ) -> Sequence[JobEvent]:
        """Return events, counted."""
        found = super().events(job_id, after=after, limit=limit, kinds=kinds)
        self.handed_out += len(found)
        return found


def tell(store: MemoryJobStore, job: Job, kind: EventKind, **data: Any) -> None:
    assert store.append_event(Lease(job.id, 1, finished.WORKER), kind, data) is not None


def steps(begin: int, end: int, **values: float) -> list[dict[str, float]]:
    return [{"cell": 0.0, "step": float(step), "loss": 1.0 / step, **values} for step in range(begin, end)]


@pytest.mark.parametrize("count", [1, MAX_POINTS, MAX_POINTS + 1, 10_000])
def test_a_series_stays_small_and_covers_every_step_once(count: int) -> None:
    series = Thinned()

    for step in range(1, count + 1):
        series.add(step, {"loss": float(step)})

    points = series.points
    assert min(count, MAX_POINTS // 2) <= len(points) <= MAX_POINTS
    assert sum(point.merged for point in points) == count
    assert points[-1].step == count
    assert [point.step for point in points] == sorted(point.step for point in points)
    mean = sum(point.values["loss"] * point.merged for point in points) / count
    assert mean == pytest.approx((count + 1) / 2, rel=1e-12)


def test_a_series_of_another_density_in_the_middle_is_merged_by_weight() -> None:
    series = Thinned()
    for step in range(1, MAX_POINTS + 2):
        series.add(step, {"loss": 1.0} if step % 2 else {"loss": 3.0, "gradient_norm": 2.0})

    assert series.points[0].values == {"loss": 2.0, "gradient_norm": 2.0}
    assert (series.points[0].step, series.points[0].merged) == (2, 2)


def test_a_number_that_is_none_is_left_out() -> None:
    series = Thinned()

    series.add(1, {"loss": float("nan"), "gradient_norm": 1.0})

    assert series.points[0].values == {"gradient_norm": 1.0}


def test_each_event_is_read_once() -> None:
    store = CountingStore()
    job = finished.training(store)
    trainings = Trainings(store)
    first = trainings.of(job.id)
    before = store.handed_out

    tell(store, job, "metrics", rows=steps(2, 3))
    second = trainings.of(job.id)
    again = trainings.of(job.id)

    assert store.handed_out == before + 1
    assert [point.step for point in first.cells[0].training] == [1]
    assert [point.step for point in second.cells[0].training] == [1, 2]
    assert again == second


def test_steps_that_a_later_attempt_does_again_replace_those_of_the_lost_one() -> None:
    store = MemoryJobStore()
    job = finished.training(store)
    trainings = Trainings(store)
    tell(store, job, "metrics", rows=steps(2, 8, learning_rate=1.0))
    trainings.of(job.id)

    tell(store, job, "metrics", rows=steps(4, 6, learning_rate=2.0))

    record = trainings.of(job.id)
    told = {point.step: point.values["learning_rate"] for point in record.cells[0].training}
    assert told == {1: 1e-4, 2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0}
    assert record.latest["step"] == 5


def test_the_latest_checkpoints_and_the_best_one_are_kept() -> None:
    store = MemoryJobStore()
    job = finished.training(store)  # whose checkpoint at step 1 is the best
    for step in range(2, MAX_CHECKPOINTS + 10):
        tell(store, job, "checkpoint", cell=0, step=step, num_bytes=1, scores={}, is_best=False)

    kept = Trainings(store).of(job.id).checkpoints

    assert [row.step for row in kept] == [1, *range(10, MAX_CHECKPOINTS + 10)]
    assert [row.step for row in kept if row.is_best] == [1]


def test_the_trainings_of_a_grid_stand_apart() -> None:
    store = MemoryJobStore()
    job = finished.training(store)
    tell(store, job, "metrics", rows=[{"cell": 1.0, "step": 1.0, "loss": 9.0}])

    record = Trainings(store).of(job.id)

    assert [(cell.cell, cell.learning_rate, cell.training[0].values["loss"]) for cell in record.cells] == [
        (0, 1e-4, 2.5),
        (1, 3e-4, 9.0),
    ]
    assert (record.current, record.total, record.steps) == (1, 2, 2)
