"""What no database is given, and what every one gives back the same way."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from service.jobs.schema import JobFilter
from service.jobs.sql_store import SqlJobStore
from service.keys.access import issue_key
from service.keys.store import KeyStore
from service.platform.database import migrate, open_database
from service.platform.errors import UnstorableTextError
from tests.service.jobs.lifecycle import MakeJob

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("field", ["model_id", "recipe", "tag", "owner"])
@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800"])
def test_text_that_cannot_be_stored_is_not_looked_for(engine: Engine, field: str, text: str) -> None:
    with pytest.raises(UnstorableTextError, match="remove it"):
        SqlJobStore(engine).list(JobFilter.model_construct(states=(), **_nothing() | {field: text}), limit=1)


def test_text_that_cannot_be_stored_is_not_stored(engine: Engine) -> None:
    keys = KeyStore(engine)

    with pytest.raises(UnstorableTextError):
        issue_key(keys, name="a\0", owner="ann", scopes=("jobs:read",))

    assert keys.list(None) == []


@pytest.mark.parametrize(
    ("moment", "is_after"),
    [
        (datetime(1, 1, 1, tzinfo=EAST), True),
        (datetime(9999, 12, 31, 23, 59, tzinfo=WEST), False),
        (datetime(2025, 12, 31, 23, 59), True),  # noqa: DTZ001  # a time without a zone is the point
    ],
)
def test_any_time_can_be_compared_with(engine: Engine, make_job: MakeJob, moment: datetime, is_after: bool) -> None:
    store = SqlJobStore(engine)
    job = store.add(make_job(created_at=datetime(2026, 1, 1, tzinfo=UTC)))

    found = store.list(JobFilter(created_after=moment), limit=1).jobs

    assert found == ((job,) if is_after else ())


def _nothing() -> dict[str, None]:
    return dict.fromkeys(JobFilter.model_fields.keys() - {"states"})


def test_a_server_that_the_network_swallows_is_not_waited_for_beyond_a_lease(postgres_url: str) -> None:
    asked, chosen = open_database(postgres_url), open_database(f"{postgres_url}?connect_timeout=3")
    with asked.connect() as first, chosen.connect() as second:
        found = [_parameters(first), _parameters(second)]
    asked.dispose()
    chosen.dispose()

    assert [row["tcp_user_timeout"] for row in found] == ["30000", "30000"]
    assert [row["connect_timeout"] for row in found] == ["10", "3"]  # what the URL says goes first


def _parameters(connection: Connection) -> dict[str, str]:
    driver = connection.connection.driver_connection
    assert driver is not None
    return dict(driver.info.get_parameters())
