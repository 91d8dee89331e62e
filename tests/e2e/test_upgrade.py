"""An upgrade with jobs in flight: what the version before left running and waiting, and what the next one has sent.

Live processes on both sides of the line. There is no second version of the code here, so the older one is its database,
and the newer one is what it may write: fields, stages, kinds of events and of work that this version has no word for.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from service.jobs import tables
from service.jobs.queue import TASK_NAME, create_celery
from service.jobs.schema import Job, JobState, Lease
from service.jobs.work import JobDestination
from service.platform.clock import utc_now
from service.platform.database import reading, writing
from srr_core.recipe.stages import Stage
from tests.e2e.test_jobs import Installation, install
from tests.pico import build_checkpoint
from worker.folder_hub import FolderHub

__all__ = ["install"]
pytestmark = pytest.mark.slow
GOLDEN = Path(__file__).parents[1] / "golden" / "v0.1"
IDS = json.loads((GOLDEN / "ids.json").read_text())
WAITING = ("queued", "queued_again")
HELD = ("running", "publishing")
CARRIED_ON = (*WAITING, *HELD)
ENDED = ("succeeded", "failed", "canceled")
FEW_WINDOWS = {"text": None, "sha256": None, "num_sequences": 4, "sequence_length": 32}
NEWER = 9
"""A version of stored jobs that is not there yet."""


def _old_installation(data_dir: Path, model: Path) -> None:
    """Lay the database of version 0.1 into a data directory, and models for its jobs into the hub.

    The jobs of that database name commits that never were, and one has a token whose key is lost; here they name the
    commits of the hub, and bring none.
    """
    data_dir.mkdir()
    shutil.copyfile(GOLDEN / "jobs.sqlite3", data_dir / "jobs.sqlite3")
    hub = FolderHub(data_dir / "hub")
    with sqlite3.connect(data_dir / "jobs.sqlite3") as database:
        for name in CARRIED_ON:
            (model_id,) = database.execute("SELECT model_id FROM jobs WHERE id = ?", (IDS[name],)).fetchone()
            sha = hub.import_model(model, model_id, tag="v1")
            database.execute(
                "UPDATE jobs SET source = replace(source, ?, ?), calibration = ?, brought_token = 0 WHERE id = ?",
                ("a" * 40, sha, json.dumps(FEW_WINDOWS), IDS[name]),
            )
        database.execute("DELETE FROM job_credentials")
    database.close()


def _states(service: Installation, name: str) -> list[tuple[int, str]]:
    events = service.jobs.store.events(IDS[name], kinds=("state",))
    return [(event.attempt, event.data["state"]) for event in events]


def test_what_the_version_before_left_running_and_waiting_is_carried_to_its_end(
    install: Callable[..., Installation], tmp_path: Path
) -> None:
    _old_installation(tmp_path / "data", build_checkpoint(tmp_path / "pico"))
    service = install()
    before = {name: service.jobs.store.get(IDS[name]) for name in ENDED}
    attempts = {name: service.jobs.store.get(IDS[name]).attempt for name in CARRIED_ON}
    service.start_worker()

    jobs = {name: service.finish(service.jobs.store.get(IDS[name])) for name in (*CARRIED_ON, "canceling")}

    assert {name: (job.state, job.failure) for name, job in jobs.items()} == {
        **dict.fromkeys(CARRIED_ON, (JobState.SUCCEEDED, None)),
        "canceling": (JobState.CANCELED, None),
    }
    assert {name: jobs[name].attempt - attempts[name] for name in CARRIED_ON} == {
        **dict.fromkeys(WAITING, 0),
        **dict.fromkeys(HELD, 1),  # of a worker that will not come back
    }
    assert {name: [state for _, state in _states(service, name)].count("succeeded") for name in CARRIED_ON} == (
        dict.fromkeys(CARRIED_ON, 1)
    )
    assert {name: service.jobs.store.get(IDS[name]) for name in ENDED} == before
    for name in CARRIED_ON:
        head = service.hub.head(f"acme/{'retried' if name == 'queued_again' else name}-out")
        assert head is not None
        assert jobs[name].result is not None
        assert jobs[name].result.commit_sha == head.sha


def _rewrite(engine: Engine, job: Job, **more: object) -> None:
    """Change a stored job as a newer version may have written it."""
    with writing(engine) as connection:
        row = tables.jobs.c.id == job.id
        work = connection.execute(select(tables.jobs.c.work).where(row)).scalar_one()
        connection.execute(update(tables.jobs).where(row).values(work={**work, **more}, schema_version=NEWER))


def _held_by_a_newer_worker(service: Installation, job: Job) -> None:
    """Have another worker begin a job, in words of its own, and die."""
    store, engine = service.jobs.store, service.jobs.engine
    assert store.claim(job.id, 1, worker="newer", lasts=service.settings.lease) is not None
    store.progress(Lease(job.id, 1, "newer"), stage=Stage.COMPRESS, progress=0.4)
    event = store.append_event(Lease(job.id, 1, "newer"), "log", {"message": "Half of it is done."})
    assert event is not None
    with writing(engine) as connection:
        row = tables.jobs.c.id == job.id
        connection.execute(update(tables.jobs).where(row).values(stage="distill", lease_until=utc_now()))
        events = tables.job_events.c
        connection.execute(
            update(tables.job_events)
            .where(events.job_id == job.id, events.sequence == event.sequence)
            .values(kind="hologram", data={"depth": 3}, schema_version=NEWER)
        )


def _send_as_a_newer_service(service: Installation, job: Job) -> None:
    """Send the message of a job with something in it that this version does not know."""
    app = create_celery(service.settings)
    app.send_task(TASK_NAME, args=(job.id, 1), kwargs={"priority": "high"}, queue=service.settings.queue_name)
    app.close()


def test_what_the_next_version_left_in_flight_is_carried_on_or_left_to_it_and_never_lost(
    install: Callable[..., Installation], tmp_path: Path
) -> None:
    service = install()
    service.hub.import_model(build_checkpoint(tmp_path / "pico"), "acme/base")
    names = ("more", "strange", "begun", "sent")
    jobs = {name: service.submit(destination=JobDestination(repo_id=f"acme/{name}")) for name in names}
    _rewrite(service.jobs.engine, jobs["more"], energy="little")
    _rewrite(service.jobs.engine, jobs["strange"], kind="prune")
    _held_by_a_newer_worker(service, jobs["begun"])
    _send_as_a_newer_service(service, jobs["sent"])
    service.start_worker()

    ended = {name: service.finish(jobs[name]) for name in ("more", "begun", "sent")}

    assert {name: (job.state, job.failure, job.attempt) for name, job in ended.items()} == {
        "more": (JobState.SUCCEEDED, None, 1),
        "begun": (JobState.SUCCEEDED, None, 2),
        "sent": (JobState.SUCCEEDED, None, 1),
    }
    events = service.jobs.store.events(jobs["begun"].id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    service.wait_for(lambda: "job_unreadable" in service.log.read_text())
    assert _row(service.jobs.engine, jobs["strange"]) == ("queued", 1, NEWER, "prune")
    assert "Traceback" not in service.log.read_text()


def _row(engine: Engine, job: Job) -> tuple[str, int, int, str]:
    columns = tables.jobs.c
    with reading(engine) as connection:
        query = select(columns.state, columns.attempt, columns.schema_version, columns.work)
        state, attempt, version, work = connection.execute(query.where(columns.id == job.id)).one()
    return state, attempt, version, work["kind"]
