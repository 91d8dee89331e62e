"""When a running job has to stop."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Job, JobState, Lease
from service.platform.clock import utc_now
from service.platform.errors import StoreUnavailableError
from srr_core.recipe.stages import Stage
from tests.service.submitting import submitted
from worker.lease_keeper import LeaseKeeper, Limits
from worker.workspace import Workspace

LIMITS = Limits(
    lease=timedelta(seconds=60),
    heartbeat_seconds=10,
    time_limit_seconds=1000,
    disk_budget_bytes=100,
    grace_seconds=1,
)


class Away(MemoryJobStore):
    """A store that can be switched off."""

    is_down = False

    def get(self, job_id: str) -> Job:
        self._require_up()
        return super().get(job_id)

    def renew(self, lease: Lease, *, lasts: timedelta) -> JobState | None:
        self._require_up()
        return super().renew(lease, lasts=lasts)

    def _require_up(self) -> None:
        if self.is_down:
            raise StoreUnavailableError("away")


class Hand:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Away:
    return Away()


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def job(store: Away) -> Job:
    job = submitted(store)
    claim = store.claim(job.id, 1, worker="w", lasts=LIMITS.lease)
    assert claim is not None
    return claim.job


@pytest.fixture
def watch(store: Away, job: Job, clock: Hand, tmp_path: Path) -> LeaseKeeper:
    return LeaseKeeper(store, Lease(job.id, 1, "w"), Workspace(tmp_path), LIMITS, clock=clock)


def outcome(watch: LeaseKeeper) -> str | None:
    stop = watch.look()
    return None if stop is None else stop.outcome


def test_job_that_runs_well_goes_on_and_keeps_its_lease(watch: LeaseKeeper, store: Away, clock: Hand) -> None:
    clock.now = 30

    assert outcome(watch) is None
    assert list(store.reap(now=utc_now() + timedelta(seconds=50))) == []


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (lambda store, job: store.cancel(job.id), "canceled"),
        (lambda store, job: store.requeue(Lease(job.id, 1, "w")), "lease_lost"),
    ],
    ids=["canceled", "lost"],
)
def test_job_that_is_not_wanted_any_more_stops(
    watch: LeaseKeeper, store: Away, job: Job, happens: Callable[[Away, Job], object], expected: str
) -> None:
    happens(store, job)

    assert outcome(watch) == expected


def test_database_that_is_away_is_borne_until_the_lease_is_over(watch: LeaseKeeper, store: Away, clock: Hand) -> None:
    store.is_down = True
    clock.now = 59

    assert outcome(watch) is None
    clock.now = 60
    assert outcome(watch) == "lease_lost"


def test_time_and_disk_are_limited(watch: LeaseKeeper, clock: Hand, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 101)
    clock.now = 9

    assert outcome(watch) is None
    clock.now = 10
    stop = watch.look()
    assert stop is not None
    assert stop.failure is not None
    assert stop.failure.code == "disk_budget"
    clock.now = 1000
    stop = watch.look()
    assert stop is not None
    assert stop.failure is not None
    assert stop.failure.code == "time_limit"


def test_reading_the_model_may_not_take_for_ever(store: Away, job: Job, clock: Hand, tmp_path: Path) -> None:
    lease = Lease(job.id, 1, "w")
    keeper = LeaseKeeper(store, lease, Workspace(tmp_path), replace(LIMITS, plan_seconds=30), clock=clock)
    store.progress(lease, stage=Stage.PLAN, progress=0.1)
    assert keeper.look() is None

    clock.now = 29
    assert keeper.look() is None
    clock.now = 31
    stop = keeper.look()

    assert stop is not None
    assert stop.failure is not None
    assert (stop.failure.code, stop.failure.retryable) == ("plan_limit", False)


def test_a_plan_that_is_over_is_not_counted_on(store: Away, job: Job, clock: Hand, tmp_path: Path) -> None:
    lease = Lease(job.id, 1, "w")
    keeper = LeaseKeeper(store, lease, Workspace(tmp_path), replace(LIMITS, plan_seconds=30), clock=clock)
    store.progress(lease, stage=Stage.PLAN, progress=0.1)
    keeper.look()
    store.progress(lease, stage=Stage.COMPRESS, progress=0.2)
    clock.now = 5
    keeper.look()

    clock.now = 40

    assert keeper.look() is None


def test_too_much_memory_is_a_verdict(store: Away, job: Job, clock: Hand, tmp_path: Path) -> None:
    used = [99]
    limits = replace(LIMITS, memory_budget_bytes=100)
    keeper = LeaseKeeper(
        store, Lease(job.id, 1, "w"), Workspace(tmp_path), limits, memory_bytes=lambda: used[0], clock=clock
    )
    assert keeper.look() is None

    used[0] = 101
    stop = keeper.look()

    assert stop is not None
    assert stop.failure is not None
    assert (stop.failure.code, stop.failure.retryable) == ("memory_budget", False)
