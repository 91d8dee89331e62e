"""From steps of the core to events of a job."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import EventKind, Job, JobEvent, Lease
from service.platform.errors import StoreUnavailableError
from srr_core.recipe.stages import Stage
from srr_core.report import LayerReport
from srr_core.types import Progress
from tests.service.submitting import submitted
from tests.worker.artifacts import report
from worker.progress import ProgressRecorder


class Flaky(MemoryJobStore):
    """A store that can be switched off."""

    is_down = False

    def append_event(self, lease: Lease, kind: EventKind, data: Mapping[str, Any]) -> JobEvent | None:
        self._require_up()
        return super().append_event(lease, kind, data)

    def progress(self, lease: Lease, *, stage: Stage, progress: float) -> bool:
        self._require_up()
        return super().progress(lease, stage=stage, progress=progress)

    def events(self, job_id: str, **which: Any) -> Sequence[JobEvent]:
        self._require_up()
        return super().events(job_id, **which)

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
    job = submitted(store)
    store.claim(job.id, 1, worker="w", lasts=timedelta(minutes=1))
    return job


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def progress(store: Flaky, job: Job, clock: Hand) -> ProgressRecorder:
    return ProgressRecorder(store, Lease(job.id, 1, "w"), clock=clock)


@pytest.fixture
def told(store: Flaky, job: Job) -> Callable[[str], list[dict[str, Any]]]:
    return lambda kind: [event.data for event in store.events(job.id) if event.kind == kind]


def layer(number: int) -> Progress:
    return Progress(Stage.COMPRESS, number, 100, block=0, layer=f"layer{number}", metrics={"output_error": 0.1})


def test_every_layer_is_told_and_the_bar_at_most_twice_a_second(
    progress: ProgressRecorder, clock: Hand, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    for number in range(1, 101):
        clock.now += 0.02
        progress.on_progress(layer(number))

    assert [data["layer"] for data in told("layer")] == [f"layer{number}" for number in range(1, 101)]
    assert told("layer")[0] == {"layer": "layer1", "block": 0, "completed": 1, "total": 100, "output_error": 0.1}
    assert len(told("progress")) == 4


def test_bar_never_goes_back_and_new_stages_are_told_at_once(
    progress: ProgressRecorder, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    progress.on_bytes(1, 2)
    progress.on_progress(Progress(Stage.COMPRESS, 10, 10))
    progress.on_progress(Progress(Stage.CALIBRATE, 1, 2))
    progress.on_progress(Progress(Stage.EVALUATE, 2, 2))

    shares = [data["progress"] for data in told("progress")]
    assert [data["stage"] for data in told("progress")] == ["download", "compress", "calibrate", "evaluate"]
    assert shares == sorted(shares)


def test_finished_layers_move_the_bar_and_calibrated_blocks_do_not(
    progress: ProgressRecorder, clock: Hand, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    progress.on_progress(Progress(Stage.COMPRESS, 0, 2))
    progress.on_progress(Progress(Stage.CALIBRATE, 1, 1, block=0))
    progress.on_progress(Progress(Stage.COMPRESS, 1, 2))

    assert [data["progress"] for data in told("progress")] == [0.16, 0.16, 0.48]


def test_database_that_is_away_delays_layers_and_loses_none(
    progress: ProgressRecorder, store: Flaky, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    store.is_down = True
    progress.on_progress(layer(1))
    progress.say("Still here.")
    store.is_down = False
    progress.on_progress(layer(2))

    assert [data["layer"] for data in told("layer")] == ["layer1", "layer2"]
    assert told("log") == [{"message": "Still here."}]
    assert not progress.is_lost


def reports(*numbers: int) -> list[LayerReport]:
    layer = report().layers[0]
    return [layer.model_copy(update={"name": f"layer{number}"}) for number in numbers]


def never() -> bool:
    return False


def test_a_later_attempt_tells_of_the_layers_an_earlier_one_could_not(
    progress: ProgressRecorder, store: Flaky, job: Job, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    progress.on_progress(layer(1))
    store.is_down = True
    progress.on_progress(layer(2))  # and the process is killed with it untold
    store.is_down = False
    store.requeue(Lease(job.id, 1, "w"))
    store.claim(job.id, 2, worker="w", lasts=timedelta(minutes=1))
    later = ProgressRecorder(store, Lease(job.id, 2, "w"))
    later.on_progress(layer(3))

    later.tell_missing(reports(1, 2, 3), should_stop=never)

    assert sorted(data["layer"] for data in told("layer")) == ["layer1", "layer2", "layer3"]


def test_what_is_missing_waits_until_the_database_is_back(
    store: Flaky, job: Job, told: Callable[[str], list[dict[str, Any]]]
) -> None:
    pauses: list[float] = []

    def come_back(seconds: float) -> None:
        pauses.append(seconds)
        store.is_down = len(pauses) < 3

    progress = ProgressRecorder(store, Lease(job.id, 1, "w"), sleep=come_back)
    store.is_down = True
    progress.on_progress(layer(1))

    progress.tell_missing(reports(1, 2), should_stop=never)

    assert [data["layer"] for data in told("layer")] == ["layer1", "layer2"]
    assert len(pauses) == 3


def test_whoever_must_stop_waits_for_no_database(store: Flaky, job: Job) -> None:
    progress = ProgressRecorder(store, Lease(job.id, 1, "w"), sleep=lambda seconds: pytest.fail("it waited"))
    store.is_down = True

    progress.tell_missing(reports(1), should_stop=lambda: True)


def test_attempt_that_is_no_longer_ours_is_noticed(progress: ProgressRecorder, store: Flaky, job: Job) -> None:
    store.requeue(Lease(job.id, 1, "w"))

    progress.on_progress(layer(1))

    assert progress.is_lost
