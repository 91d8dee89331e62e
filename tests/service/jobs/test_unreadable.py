"""One row of a newer version stops nothing: it is set aside, and every loop over rows goes on with the others."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from structlog.testing import capture_logs

from service.jobs import tables
from service.jobs.memory_store import MemoryJobStore
from service.jobs.outbox import flush_outbox
from service.jobs.queue import MemoryJobQueue
from service.jobs.schema import Job, JobFilter, JobState, UnreadableJob
from service.jobs.sql_store import SqlJobStore
from service.jobs.upgrade import read_event, read_job
from service.metrics.jobs import read_job_metrics
from service.platform.clock import utc_now
from service.platform.database import migrate, open_database, writing
from service.platform.errors import UnreadableError
from srr_core.recipe import parse_recipe
from tests.service.jobs.lifecycle import LEASE, RESULT, held
from tests.service.submitting import submitted
from worker.sweep import sweep_workspaces
from worker.workspace import Workspaces

Change = Callable[[dict[str, Any]], dict[str, Any]]
OTHER_KIND: Change = lambda work: {**work, "kind": "tune"}  # noqa: E731
OTHER_QUANTIZER: Change = lambda work: {**work, "recipe": {**work["recipe"], "quantizer": {"kind": "ternary"}}}  # noqa: E731


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> SqlJobStore:
    return SqlJobStore(engine)


def rewrite(engine: Engine, job: Job, change: Change) -> None:
    """Change the work of a stored job, as a newer version may have written it."""
    with writing(engine) as connection:
        row = tables.jobs.c.id == job.id
        work = connection.execute(select(tables.jobs.c.work).where(row)).scalar_one()
        connection.execute(update(tables.jobs).where(row).values(work=change(work), schema_version=3))


@pytest.mark.parametrize("change", [OTHER_KIND, OTHER_QUANTIZER], ids=["kind", "quantizer"])
def test_the_list_shows_it_apart_and_the_others_as_ever(engine: Engine, store: SqlJobStore, change: Change) -> None:
    first, strange, last = (submitted(store) for _ in range(3))
    rewrite(engine, strange, change)

    with capture_logs() as logs:
        page = store.list(JobFilter(), limit=10)

    assert [job.id for job in page.jobs] == [last.id, first.id]
    assert page.unreadable == (
        UnreadableJob(id=strange.id, owner="me", state="queued", created_at=store_time(strange)),
    )
    assert [(line["event"], line["id"]) for line in logs] == [("row_unreadable", strange.id)]


def test_pages_go_on_behind_it(engine: Engine, store: SqlJobStore) -> None:
    first, strange = (submitted(store) for _ in range(2))
    rewrite(engine, strange, OTHER_KIND)

    page = store.list(JobFilter(), limit=1)

    assert (page.jobs, [job.id for job in page.unreadable]) == ((), [strange.id])
    assert [job.id for job in store.list(JobFilter(), limit=1, cursor=page.next_cursor).jobs] == [first.id]


def test_it_is_refused_by_its_id(engine: Engine, store: SqlJobStore) -> None:
    job = submitted(store)
    rewrite(engine, job, OTHER_KIND)

    with pytest.raises(UnreadableError, match=f"job {job.id} cannot be read by this version.*kind"):
        store.get(job.id)


def test_lost_jobs_behind_it_are_reaped(engine: Engine, store: SqlJobStore) -> None:
    strange, lost = submitted(store), submitted(store)
    held(store, strange)
    held(store, lost)
    rewrite(engine, strange, OTHER_KIND)

    reaped = store.reap(now=utc_now() + timedelta(hours=1))

    assert [(job.id, job.state) for job in reaped] == [(lost.id, JobState.QUEUED)]


def test_messages_behind_it_are_sent(engine: Engine, store: SqlJobStore) -> None:
    strange, other = submitted(store), submitted(store)
    rewrite(engine, strange, OTHER_KIND)
    queue = MemoryJobQueue()

    flush_outbox(store, queue)

    assert queue.messages == [(strange.id, 1), (other.id, 1)]


def test_numbers_are_read_past_a_report_of_another_form(engine: Engine, store: SqlJobStore) -> None:
    for seconds in ({"compress": 2.0}, "of another form", None):
        lease = held(store, submitted(store))
        store.publishing(lease)
        store.succeed(lease, result=RESULT, report={"seconds": seconds})

    assert read_job_metrics(engine, now=utc_now()).stage_seconds == {"compress": 2.0}


def test_scratch_space_of_the_others_is_swept_and_its_own_kept(
    engine: Engine, store: SqlJobStore, tmp_path: Path
) -> None:
    strange, over = submitted(store), submitted(store)
    rewrite(engine, strange, OTHER_KIND)
    store.cancel(over.id)
    workspaces = Workspaces(tmp_path / "scratch", reserve_bytes=0)
    for job in (strange, over):
        (tmp_path / "scratch" / job.id).mkdir(parents=True)

    assert sweep_workspaces(workspaces, store) == [over.id]


def test_what_a_newer_version_only_added_is_no_obstacle(engine: Engine, store: SqlJobStore) -> None:
    job = submitted(store)

    def add(work: dict[str, Any]) -> dict[str, Any]:
        recipe = {**work["recipe"], "speed": "high", "quantizer": {**work["recipe"]["quantizer"], "colour": "red"}}
        return {**work, "priority": 7, "source": {**work["source"], "mirror": "x"}, "recipe": recipe}

    rewrite(engine, job, add)

    assert store.get(job.id) == job
    assert store.claim(job.id, 1, worker="w", lasts=LEASE) is not None


def test_an_older_reader_takes_a_job_with_an_unknown_field_and_stage() -> None:
    job = submitted(MemoryJobStore())
    newer = {**job.model_dump(mode="json"), "schema_version": 3, "stage": "distill", "mood": "good"}

    assert read_job(newer) == job


def test_an_event_of_an_unknown_kind_keeps_its_number() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    stored = {"job_id": "job_" + "0" * 26, "sequence": 7, "attempt": 1, "kind": "metric", "data": {"loss": 1.0}}

    event = read_event({**stored, "created_at": moment, "schema_version": 4, "unit": "nats"})

    assert (event.sequence, event.kind, event.data["kind"]) == (7, "log", "metric")


def test_requests_stay_strict() -> None:
    recipe = submitted(MemoryJobStore()).work.recipe.model_dump(mode="json")

    with pytest.raises(Exception, match="speed"):
        parse_recipe({**recipe, "speed": "high"})


def store_time(job: Job) -> datetime:
    return job.created_at
