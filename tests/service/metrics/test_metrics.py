"""What Prometheus reads of an installation."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine

from service.jobs.policy import RetryPolicy
from service.jobs.queue import MemoryJobQueue
from service.jobs.retry import retry
from service.jobs.schema import Job, JobFailure, JobResult, Lease
from service.jobs.sql_store import SqlJobStore
from service.jobs.workers import SILENT_AFTER, Worker, WorkerRegistry
from service.metrics import InstallationCollector, read_job_metrics
from service.platform.database import migrate, open_database
from tests.service.submitting import submitted

LEASE = timedelta(seconds=60)
RESULT = JobResult(repo_id="c/d", commit_sha="b" * 40, commit_url="https://hub/c/d")


class Clock:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> SqlJobStore:
    return SqlJobStore(engine, clock=clock, retries=RetryPolicy(first=timedelta(0)))


def add(store: SqlJobStore) -> Job:
    return submitted(store)


def test_numbers_follow_the_jobs(engine: Engine, store: SqlJobStore, clock: Clock) -> None:
    done, failed, running, _ = (add(store) for _ in range(4))
    for job in (done, failed, running):
        store.claim(job.id, 1, worker="w", lasts=LEASE)
    clock.now += timedelta(seconds=30)
    store.publishing(Lease(done.id, 1, "w"))
    store.succeed(Lease(done.id, 1, "w"), result=RESULT, report={"seconds": {"compress": 20.0, "verify": 2.0}})
    store.publishing(Lease(failed.id, 1, "w"))
    store.fail(Lease(failed.id, 1, "w"), JobFailure(code="destination_conflict", message="exists"))
    clock.now += timedelta(seconds=10)

    found = read_job_metrics(engine, now=clock.now)

    assert found.jobs == {
        "queued": 1,
        "running": 1,
        "publishing": 0,
        "canceling": 0,
        "succeeded": 1,
        "failed": 1,
        "canceled": 0,
    }
    assert found.oldest_queued_seconds == pytest.approx(40)
    assert found.shortest_lease_seconds == pytest.approx(20)
    assert found.unsent_messages == 1
    assert found.ended == {"succeeded": 1, "failed": 1, "canceled": 0}
    assert found.publish_failures == 1
    assert found.wall_seconds == pytest.approx(30 + 30 + 40)
    assert found.stage_seconds == {"compress": 20.0, "verify": 2.0}
    later = read_job_metrics(engine, now=clock.now + timedelta(hours=2))
    assert later.ended == {"succeeded": 0, "failed": 0, "canceled": 0}
    assert (later.publish_failures, later.stage_seconds) == (0, {})


def test_a_job_that_runs_for_hours_counts_while_it_runs_and_never_more_than_the_hour(
    engine: Engine, store: SqlJobStore, clock: Clock
) -> None:
    job = add(store)
    store.claim(job.id, 1, worker="w", lasts=timedelta(hours=9))
    clock.now += timedelta(hours=5)
    running = read_job_metrics(engine, now=clock.now).wall_seconds
    store.fail(Lease(job.id, 1, "w"), JobFailure(code="out_of_memory", message="full"))
    clock.now += timedelta(minutes=15)

    assert running == pytest.approx(3600)
    assert read_job_metrics(engine, now=clock.now).wall_seconds == pytest.approx(45 * 60)


def test_a_job_that_is_tried_again_leaves_the_count_of_failures(
    engine: Engine, store: SqlJobStore, clock: Clock
) -> None:
    job = add(store)
    store.claim(job.id, 1, worker="w", lasts=LEASE)
    store.fail(Lease(job.id, 1, "w"), JobFailure(code="out_of_memory", message="full"))
    before = read_job_metrics(engine, now=clock.now).ended["failed"]
    retry(job.id, owner="me", store=store, wake=lambda: None)

    assert before == 1
    assert read_job_metrics(engine, now=clock.now).ended["failed"] == 0


def test_workers_count_while_they_are_heard_of(engine: Engine, clock: Clock) -> None:
    registry = WorkerRegistry(engine)
    worker = Worker(name="w1", host="h", device="cpu", version="0", started_at=clock.now, seen_at=clock.now)
    registry.beat(worker)
    registry.beat(worker.model_copy(update={"name": "w2"}))
    registry.complain("w2", "The disk is full.")
    found = read_job_metrics(engine, now=clock.now)

    assert (found.workers_alive, found.workers_unfit) == (2, 1)
    assert read_job_metrics(engine, now=clock.now + SILENT_AFTER).workers_alive == 0


def test_no_number_is_a_counter(engine: Engine) -> None:
    registry = CollectorRegistry()
    registry.register(InstallationCollector(engine, queue=MemoryJobQueue(), deliveries=lambda: {"pending": 3}))

    text = generate_latest(registry).decode()

    assert " counter" not in text


def test_scrape_has_every_family(engine: Engine, store: SqlJobStore, clock: Clock) -> None:
    job = add(store)
    store.claim(job.id, 1, worker="w", lasts=LEASE)
    registry = CollectorRegistry()
    registry.register(
        InstallationCollector(engine, queue=MemoryJobQueue(), deliveries=lambda: {"pending": 3}, clock=clock)
    )

    text = generate_latest(registry).decode()

    assert 'srr_jobs{state="running"} 1.0' in text
    assert 'srr_jobs_ended_last_hour{state="failed"} 0.0' in text
    assert "srr_workers_alive 0.0" in text
    assert "srr_queue_depth 0.0" in text
    assert "srr_lease_remaining_seconds 60.0" in text
    assert "srr_publish_failures_last_hour 0.0" in text
    assert 'srr_webhook_deliveries{state="pending"} 3.0' in text
    assert 'srr_up{part="database"} 1.0' in text
    assert 'srr_up{part="broker"} 1.0' in text


def test_scrape_says_what_does_not_answer() -> None:
    engine = open_database("postgresql+psycopg://u:p@127.0.0.1:9/jobs?connect_timeout=1")
    queue = MemoryJobQueue()
    queue.is_down = True
    registry = CollectorRegistry()
    registry.register(InstallationCollector(engine, queue=queue))

    text = generate_latest(registry).decode()

    assert 'srr_up{part="database"} 0.0' in text
    assert 'srr_up{part="broker"} 0.0' in text
    engine.dispose()
