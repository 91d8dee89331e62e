"""From steps of the core to events of a job."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import EventKind, Job, JobDestination, JobEvent, JobSource, JobSubmission
from service.jobs.submit import submit
from service.platform.errors import StoreUnavailableError
from srr_core.recipe import named_recipe
from srr_core.types import Progress
from worker.progress import JobProgress


class Flaky(MemoryJobStore):
    """A store that can be switched off."""

    is_down = False

    def append_event(
        self, job_id: str, attempt: int, kind: EventKind, data: Mapping[str, Any], *, worker: str | None = None
    ) -> JobEvent | None:
        self._require_up()
        return super().append_event(job_id, attempt, kind, data, worker=worker)

    def progress(self, job_id: str, attempt: int, *, worker: str, stage: str, progress: float) -> bool:
        self._require_up()
        return super().progress(job_id, attempt, worker=worker, stage=stage, progress=progress)

    def _require_up(self) -> None:
        if self.is_down:
            raise StoreUnavailableError("away")


class Hand:
    """A clock that is moved by hand, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Flaky:
    return Flaky()


@pytest.fixture
def job(store: Flaky) -> Job:
    submission = JobSubmission(
        source=JobSource(model_id="a/b"), destination=JobDestination(repo_id="c/d"), recipe=named_recipe("srr")
    )
    job = submit(submission, owner="me", store=store, wake=lambda: None)
    store.claim(job.id, 1, worker="w", lease=timedelta(minutes=1))
    return job


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def progress(store: Flaky, job: Job, clock: Hand) -> JobProgress:
    return JobProgress(store, job.id, 1, "w", clock=clock)


@pytest.fixture
def told(store: Flaky, job: Job) -> Callable[[str], list[dict[str, Any]]]:
    return lambda kind: [event.data for event in store.events(job.id) if event.kind == kind]


def layer(number: int) -> Progress:
    return Progress("compress", number, 100, block=0, layer=f"layer{number}", metrics={"output_error": 0.1})


def test_every_layer_is_told_and_the_bar_at_most_twice_a_second(
    progress: JobProgress, clock: Hand, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    for number in range(1, 101):
        clock.now += 0.02
        progress.on_progress(layer(number))

    assert [data["layer"] for data in told("layer")] == [f"layer{number}" for number in range(1, 101)]
    assert told("layer")[0] == {"layer": "layer1", "block": 0, "completed": 1, "total": 100, "output_error": 0.1}
    assert len(told("progress")) == 4


def test_bar_never_goes_back_and_new_stages_are_told_at_once(
    progress: JobProgress, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    progress.on_bytes(1, 2)
    progress.on_progress(Progress("compress", 10, 10))
    progress.on_progress(Progress("calibrate", 1, 2))
    progress.on_progress(Progress("evaluate", 2, 2))

    shares = [data["progress"] for data in told("progress")]
    assert [data["stage"] for data in told("progress")] == ["download", "compress", "calibrate", "evaluate"]
    assert shares == sorted(shares)


def test_finished_layers_move_the_bar_and_calibrated_blocks_do_not(
    progress: JobProgress, clock: Hand, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    progress.on_progress(Progress("compress", 0, 2))
    progress.on_progress(Progress("calibrate", 1, 1, block=0))
    progress.on_progress(Progress("compress", 1, 2))

    assert [data["progress"] for data in told("progress")] == [0.16, 0.16, 0.48]


def test_database_that_is_away_delays_layers_and_loses_none(
    progress: JobProgress, store: Flaky, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    store.is_down = True
    progress.on_progress(layer(1))
    progress.say("Still here.")
    store.is_down = False
    progress.on_progress(layer(2))

    assert [data["layer"] for data in told("layer")] == ["layer1", "layer2"]
    assert told("log") == [{"message": "Still here."}]
    assert not progress.is_lost


def test_attempt_that_is_no_longer_ours_is_noticed(progress: JobProgress, store: Flaky, job: Job) -> None:
    store.requeue(job.id, 1, worker="w")

    progress.on_progress(layer(1))

    assert progress.is_lost
