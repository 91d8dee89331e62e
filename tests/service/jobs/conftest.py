"""Every kind of job store, a clock that is moved by hand, and jobs to put in."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.jobs.memory_store import MemoryJobStore
from service.jobs.ports import JobStore
from service.jobs.schema import Job, JobState
from service.jobs.sql_store import SqlJobStore
from service.jobs.work import CompressWork
from service.platform.database import migrate, open_database
from service.platform.ids import new_id
from tests.service.submitting import compression


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        """Let time pass."""
        self.now += timedelta(**delta)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[JobStore]:
    """One store of each kind, empty."""
    if request.param == "memory":
        yield MemoryJobStore(clock=clock)
        return
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    engine = open_database(url)
    migrate(engine)
    yield SqlJobStore(engine, clock=clock)
    engine.dispose()


@pytest.fixture
def make_job(clock: Clock) -> Callable[..., Job]:
    """Build a queued job; keyword arguments replace its fields."""

    def make(**fields: Any) -> Job:
        clock.advance(milliseconds=2)
        defaults: dict[str, Any] = {
            "id": new_id("job"),
            "state": JobState.QUEUED,
            "created_at": clock.now,
            "updated_at": clock.now,
        }
        of_the_work = {name: fields.pop(name) for name in CompressWork.model_fields.keys() & fields.keys()}
        return Job(**(defaults | fields), work=compression(**of_the_work))

    return make
