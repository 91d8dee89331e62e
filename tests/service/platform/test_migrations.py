"""The migrations make exactly the tables the code uses, on both databases and from several processes at once."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from service.jobs.sql_store import SqlJobStore
from service.keys.tables import api_keys
from service.notifications.schema import Endpoint
from service.notifications.store import NotificationStore
from service.notifications.tables import endpoints
from service.platform.columns import metadata
from service.platform.database import migrate, open_database, reading, writing
from service.platform.errors import StoreUnavailableError
from service.releases.tables import watches

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

    with writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", "service:platform/migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
    migrate(engine)

    assert {one.id: one for one in store.list()} == {one.id: one for one in made}


def test_database_that_does_not_answer_is_reported_without_its_password() -> None:
    engine = open_database("postgresql+psycopg://user:s3cret@127.0.0.1:9/jobs?connect_timeout=1")

    with pytest.raises(StoreUnavailableError) as raised:
        SqlJobStore(engine).ping()

    assert "s3cret" not in f"{raised.value} {raised.value.__cause__}"
    engine.dispose()
