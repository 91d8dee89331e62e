"""What version 0.1 stored is read, listed and carried on by this one, on both databases."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from service.jobs.content import content_key
from service.jobs.schema import JobFilter, JobState
from service.jobs.sql_store import SqlJobStore
from service.jobs.submit import check_submission, replay
from service.jobs.texts import detach_texts
from service.jobs.upgrade import read_event, read_job
from service.jobs.work import JobDestination, JobSource, JobText
from service.metrics.jobs import read_job_metrics
from service.notifications.store import NotificationStore
from service.platform.database import migrate, open_database, reading, writing
from service.releases.store import WatchStore
from tests.golden.databases import copy_rows, upgrade_to
from tests.service.submitting import submission

GOLDEN = Path(__file__).parents[2] / "golden" / "v0.1"
IDS = json.loads((GOLDEN / "ids.json").read_text())
FIRST_MIGRATION_SINCE = "0008"


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """The database of version 0.1, brought up to date; on PostgreSQL its rows in tables of that version."""
    shutil.copyfile(GOLDEN / "jobs.sqlite3", tmp_path / "jobs.sqlite3")
    engine = old = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite3'}")
    if request.param == "postgresql":
        engine = open_database(request.getfixturevalue("postgres_url"))
        upgrade_to(engine, FIRST_MIGRATION_SINCE)
        copy_rows(old, engine)
    migrate(engine)
    yield engine
    engine.dispose()
    old.dispose()


def test_every_job_is_listed_in_its_state(engine: Engine) -> None:
    page = SqlJobStore(engine).list(JobFilter(), limit=100)

    assert page.unreadable == ()
    expected = {name: state for name, state in IDS.items() if state.startswith("job_")}
    assert {job.id for job in page.jobs} == set(expected.values())
    states = {job.id: str(job.state) for job in page.jobs}
    assert {name: states[job_id] for name, job_id in expected.items()} == {
        name: "queued" if name == "queued_again" else name for name in expected
    }


def test_a_job_says_what_it_said(engine: Engine) -> None:
    job = SqlJobStore(engine).get(IDS["succeeded"])

    assert job == read_job(json.loads((GOLDEN / "job.json").read_text()))
    assert (job.work.source.model_id, job.work.source.sha) == ("acme/pico", "a" * 40)
    assert (job.work.destination.private, job.work.recipe.rank, job.tags) == (True, 4, ("nightly", "old"))
    assert job.work.calibration is not None
    text_of_the_job = SqlJobStore(engine).text(str(job.work.calibration.sha256))
    assert text_of_the_job == "a text of the caller's own"
    assert SqlJobStore(engine).get(IDS["failed"]).work.acknowledge_license


def test_its_events_and_its_report_are_read(engine: Engine) -> None:
    store = SqlJobStore(engine)

    kinds = [event.kind for event in store.events(IDS["succeeded"])]

    assert kinds == ["state", "state", "progress", "log", "progress", "layer", "state", "state"]
    stored = json.loads((GOLDEN / "event.json").read_text())
    assert read_event(stored) in store.events(IDS["succeeded"])
    assert store.report(IDS["succeeded"])["source"]["id"] == "acme/pico"
    assert read_job_metrics(engine, now=datetime(2026, 1, 1, 12, 30, tzinfo=UTC)).stage_seconds != {}


@pytest.mark.parametrize(
    "wanted",
    [
        JobFilter(model_id="acme/pico"),
        JobFilter(destination="acme/pico-out"),
        JobFilter(tag="nightly"),
        JobFilter(recipe="srr", states=(JobState.SUCCEEDED,)),
        JobFilter(kind="compress", states=(JobState.SUCCEEDED,)),
    ],
)
def test_a_job_is_found_by_what_it_was_found_by(engine: Engine, wanted: JobFilter) -> None:
    assert [job.id for job in SqlJobStore(engine).list(wanted, limit=10).jobs] == [IDS["succeeded"]]


def test_lost_jobs_are_taken_up_and_queued_ones_sent(engine: Engine) -> None:
    store = SqlJobStore(engine)

    reaped = {job.id: job.state for job in store.reap()}

    assert reaped == {
        IDS["running"]: JobState.QUEUED,
        IDS["publishing"]: JobState.QUEUED,
        IDS["canceling"]: JobState.CANCELED,
    }
    assert IDS["queued"] in {message.job_id for message in store.unsent()}


def test_a_request_that_was_answered_before_the_upgrade_replays_after_it(engine: Engine) -> None:
    wanted = submission(
        source=JobSource(model_id="acme/queued"), destination=JobDestination(repo_id="acme/queued-out"), tags=("t",)
    )

    before = replay(check_submission(wanted, owner="ann", idempotency_key="golden-key"), SqlJobStore(engine))

    assert before is not None
    assert before.id == IDS["queued"]


def test_the_same_work_has_the_same_key_as_before() -> None:
    stored = json.loads((GOLDEN / "job.json").read_text())
    job = read_job(stored)
    own = JobText(text="a text of the caller's own", num_sequences=4, sequence_length=32)
    work, _ = detach_texts(job.work.model_copy(update={"calibration": own}))

    assert content_key(work, source_sha="a" * 40, core_version="0.1.0") == stored["content_key"]


def test_watches_releases_and_endpoints_are_read(engine: Engine) -> None:
    watch = WatchStore(engine).get(IDS["watch"])

    assert [recipe.name for recipe in watch.recipes] == ["srr", "gptq"]
    assert [release.job_ids for release in WatchStore(engine).releases(watch.id)] == [(IDS["succeeded"],)]
    assert NotificationStore(engine).get(IDS["endpoint"]).url == "https://203.0.113.7/hook"


def test_the_way_back_and_forth_changes_no_job(engine: Engine) -> None:
    before = SqlJobStore(engine).list(JobFilter(), limit=100)

    with writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", "service:platform/migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, FIRST_MIGRATION_SINCE)
    with reading(engine) as connection:
        flat = connection.execute(text("SELECT recipe_name FROM jobs WHERE recipe IS NOT NULL")).all()
    migrate(engine)

    assert len(flat) == len(before.jobs)
    assert SqlJobStore(engine).list(JobFilter(), limit=100) == before
