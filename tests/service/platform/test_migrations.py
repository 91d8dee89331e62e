"""The migrations make exactly the tables the code uses, on both databases and from several processes at once."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from service.jobs.schema import JobFailure, JobResult
from service.jobs.sql_store import SqlJobStore
from service.jobs.tenancy import Tenancy
from service.jobs.work import JobDestination
from service.keys.tables import api_keys
from service.notifications.schema import Endpoint
from service.notifications.store import NotificationStore
from service.notifications.tables import endpoints
from service.platform.columns import metadata
from service.platform.database import migrate, open_database, reading, writing
from service.platform.errors import StoreUnavailableError
from service.releases.tables import watches
from tests.service.submitting import submission, submitted

OTHER_ROOMS = (api_keys, endpoints, watches)
"""One table of every room beside the jobs: importing it adds the room's tables to the metadata."""


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'new' / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    yield engine
    engine.dispose()


def test_migrated_database_is_what_the_tables_say(engine: Engine) -> None:
    migrate(engine)

    with reading(engine) as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)

    assert differences == []
    assert {table.metadata for table in OTHER_ROOMS} == {metadata}


def test_second_migration_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)

    SqlJobStore(engine).ping()


def test_processes_that_start_together_migrate_once(engine: Engine) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            migrate(engine)
        except BaseException as error:  # noqa: BLE001  # handed to the assertion
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert failures == []


def test_endpoints_that_are_off_stay_off_on_the_way_back_and_forth(engine: Engine) -> None:
    migrate(engine)
    store = NotificationStore(engine)
    made = [
        Endpoint(id=f"endpoint_{on}", owner="o", url="https://example.org", enabled=on, created_at=datetime.now(UTC))
        for on in (True, False)
    ]
    [store.add(endpoint, sealed_secrets=[]) for endpoint in made]

    downgrade(engine, "0005")
    migrate(engine)

    assert {one.id: one for one in store.list()} == {one.id: one for one in made}


def test_the_publisher_of_what_is_there_already_is_whoever_published_last(engine: Engine) -> None:
    migrate(engine)
    store = SqlJobStore(engine)
    ended = [("ann", "Acme/Out", True), ("bob", "acme/out", True), ("eve", "acme/out", False), ("ann", "acme/b", True)]
    for owner, repo_id, succeeds in ended:
        job = submitted(store, submission(destination=JobDestination(repo_id=repo_id)), owner=owner)
        claim = store.claim(job.id, job.attempt, worker="w", lasts=timedelta(minutes=1))
        assert claim is not None
        if succeeds:
            store.publishing(claim.lease)
            result = JobResult(repo_id=repo_id, commit_sha="a" * 40, commit_url="https://hub.example/c")
            store.succeed(claim.lease, result=result, report={})
        else:
            store.fail(claim.lease, JobFailure(code="internal", message="m", retryable=False))

    downgrade(engine, "0010")
    migrate(engine)

    assert [Tenancy(engine).publisher(repo_id) for repo_id in ("acme/out", "acme/b", "acme/c")] == ["bob", "ann", None]


def downgrade(engine: Engine, revision: str) -> None:
    with writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", "service:platform/migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def test_database_that_does_not_answer_is_reported_without_its_password() -> None:
    engine = open_database("postgresql+psycopg://user:s3cret@127.0.0.1:9/jobs?connect_timeout=1")

    with pytest.raises(StoreUnavailableError) as raised:
        SqlJobStore(engine).ping()

    assert "s3cret" not in f"{raised.value} {raised.value.__cause__}"
    engine.dispose()
