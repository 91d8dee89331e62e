"""A backup as the handbook makes it, restored on a machine that has nothing else: what it held goes on, once."""

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from service.jobs.opening import Jobs, open_jobs
from service.jobs.schema import JobFilter, JobState, JobSubmission
from service.jobs.settings import JobsSettings
from service.jobs.work import JobDestination
from tests.servers import find_postgres
from tests.service.submitting import submission, submitted

TOKEN = "hf_" + "a" * 34


@dataclass(frozen=True)
class Database:
    """A database, how it is backed up, and how it is put back."""

    url: str
    back_up: Callable[[], object]
    restore: Callable[[], object]


def sqlite(folder: Path) -> Database:
    file, backup = folder / "jobs.sqlite3", folder / "backup.sqlite3"

    def copy(source: Path, target: Path) -> None:
        # What `.backup` of the sqlite3 program calls.
        with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)

    return Database(f"sqlite:///{file}", lambda: copy(file, backup), lambda: copy(backup, file))


def postgresql(folder: Path, url: str) -> Database:
    programs, dump = find_postgres(), str(folder / "backup.dump")
    address = url.replace("postgresql+psycopg://", "postgresql://")

    def run(program: str, *arguments: str) -> None:
        subprocess.run([str(programs / program), *arguments], check=True, capture_output=True)

    return Database(
        url,
        lambda: run("pg_dump", "--format=custom", f"--file={dump}", address),
        lambda: run("pg_restore", "--clean", "--if-exists", f"--dbname={address}", dump),
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return sqlite(tmp_path)
    return postgresql(tmp_path, request.getfixturevalue("postgres_url"))


def test_what_a_backup_held_goes_on_and_nothing_twice(database: Database, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with open_jobs(_settings(old, database.url)) as jobs:
        waiting = submitted(jobs.store, hub_token=TOKEN, vault=jobs.vault)
        running = submitted(jobs.store, _to("org/second"))
        jobs.maintenance().run_once()
        assert jobs.store.claim(running.id, 1, worker="gone", lasts=timedelta()) is not None
        database.back_up()
        shutil.copyfile(old / "credential.key", tmp_path / "credential.key")
        submitted(jobs.store, _to("org/later"))
    shutil.rmtree(old)

    new.mkdir()
    shutil.copyfile(tmp_path / "credential.key", new / "credential.key")
    database.restore()
    with open_jobs(_settings(new, database.url)) as jobs:
        assert {job.id for job in jobs.store.list(JobFilter(), limit=10).jobs} == {waiting.id, running.id}

        jobs.maintenance().run_once()

        assert jobs.store.get(running.id).state is JobState.QUEUED
        assert jobs.queue.depth() == 2
        assert _token_of(jobs, waiting.id) == TOKEN
        assert jobs.store.claim(waiting.id, 1, worker="other", lasts=timedelta(hours=1)) is None


def _to(repo_id: str) -> JobSubmission:
    return submission(destination=JobDestination(repo_id=repo_id))


def _settings(data_dir: Path, url: str) -> JobsSettings:
    return JobsSettings(data_dir=data_dir, database_url=url, lost_message_seconds=1e-6)


def _token_of(jobs: Jobs, job_id: str) -> str:
    claim = jobs.store.claim(job_id, 1, worker="new", lasts=timedelta(hours=1))
    assert claim is not None
    sealed = jobs.store.credential(claim.lease)
    assert sealed is not None
    return jobs.vault.open(sealed)
