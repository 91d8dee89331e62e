"""One database behind a URL: how it is opened, and how its tables are brought up to date."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from service.platform.errors import StoreUnavailableError, UnstorableTextError
from service.platform.text import dump_document, load_document

_BUSY_TIMEOUT_MILLISECONDS = 20_000
_SQLITE_OUTAGES = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_READONLY")
_DOCUMENTS: Mapping[str, Any] = {"json_serializer": dump_document, "json_deserializer": load_document}
"""Documents hold words of strangers: what no store keeps is replaced on the way in and, of earlier versions, out."""
_PATIENCE: Mapping[str, int] = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""Seconds, and milliseconds for `tcp_user_timeout`, until a server that the network swallowed counts as away. That is
half a lease: a worker would else wait for a quarter of an hour while another has its job. The URL may say otherwise."""
_MIGRATION_LOCK = 7_305_114
"""An arbitrary number: PostgreSQL's advisory lock that lets one process migrate at a time."""


def open_database(url: str) -> Engine:
    """Return an engine for SQLite or PostgreSQL. Parameters never appear in its errors or logs.

    SQLite runs in WAL mode, readers beside one writer. Writing transactions take the write lock at their
    beginning: a lock upgrade in the middle fails at once, whatever the busy timeout. Text with a NUL character is
    refused by both, because PostgreSQL cannot hold it: UnstorableTextError.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _open_sqlite(parsed)
    else:
        patience = {name: value for name, value in _PATIENCE.items() if name not in parsed.query}
        engine = create_engine(
            parsed, hide_parameters=True, pool_pre_ping=True, pool_recycle=1800, connect_args=patience, **_DOCUMENTS
        )
    event.listen(engine, "before_cursor_execute", _refuse_nul)
    return engine


def migrate(engine: Engine) -> None:
    """Bring the tables up to date. Safe when several processes start at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only reads.

    Raises:
        StoreUnavailableError: the database does not answer.
        UnstorableTextError: it is asked for a text that it cannot hold.
    """
    with _translated(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that writes and commits at the end, or rolls back on an exception.

    Raises:
        StoreUnavailableError: the database does not answer, or stays locked.
        UnstorableTextError: it is given a text that it cannot hold.
    """
    with _translated(), engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not _is_outage(error):
            raise
        raise StoreUnavailableError("the job database does not answer; try again in a moment") from error
    except UnicodeEncodeError as error:
        raise UnstorableTextError("half of a surrogate pair is not text; remove it") from error


def _is_outage(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        # SQLite calls everything an operational error, a mistake in our SQL included.
        return getattr(error.orig, "sqlite_errorname", "").startswith(_SQLITE_OUTAGES)
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def _open_sqlite(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, hide_parameters=True, **_DOCUMENTS)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _refuse_nul(
    _connection: Connection, _cursor: Any, _statement: str, parameters: Any, _context: Any, executemany: bool
) -> None:
    for row in parameters if executemany else (parameters,):
        for value in row.values() if isinstance(row, Mapping) else row:
            if isinstance(value, str) and "\0" in value:
                raise UnstorableTextError("a NUL character cannot be stored or looked for; remove it")


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={_BUSY_TIMEOUT_MILLISECONDS}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
