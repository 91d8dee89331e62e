"""The list of workers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from service.jobs.sql_store import SqlJobStore
from service.jobs.workers import Worker, WorkerRegistry
from service.platform.database import migrate, open_database
from tests.service.jobs.lifecycle import MakeJob, claimed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    yield engine
    engine.dispose()


def worker(name: str, seen_at: datetime = NOW) -> Worker:
    return Worker(name=name, host="gpu1", device="cuda", version="0.1.0", started_at=NOW, seen_at=seen_at)


def test_worker_that_beats_is_alive_and_shows_its_job(engine: Engine, make_job: MakeJob) -> None:
    registry, store = WorkerRegistry(engine), SqlJobStore(engine)
    registry.beat(worker("w1"))
    registry.beat(worker("w2"))
    job = store.add(make_job())
    claimed(store, job, worker="w1")
    later = NOW + timedelta(seconds=50)
    registry.beat(worker("w1", later))

    first, second = registry.list()

    assert (first.name, first.job_id, first.seen_at, first.started_at) == ("w1", job.id, later, NOW)
    assert (second.name, second.job_id) == ("w2", None)
    assert first.is_alive(now=later + timedelta(seconds=30))
    assert not second.is_alive(now=later + timedelta(seconds=30))


def test_what_keeps_a_worker_from_working_stays_until_it_says_otherwise(engine: Engine) -> None:
    registry = WorkerRegistry(engine)
    registry.beat(worker("w1"))

    registry.complain("w1", "The disk is full. " * 100)
    registry.beat(worker("w1"))

    (sick,) = registry.list()
    assert sick.trouble is not None
    assert sick.trouble.startswith("The disk is full.")
    registry.complain("w1", None)
    assert registry.list()[0].trouble is None


def test_worker_that_left_or_is_long_gone_is_forgotten(engine: Engine) -> None:
    registry = WorkerRegistry(engine)
    registry.beat(worker("left"))
    registry.beat(worker("killed"))
    registry.leave("left")
    registry.beat(worker("new", NOW + timedelta(days=2)))

    assert [one.name for one in registry.list()] == ["new"]
