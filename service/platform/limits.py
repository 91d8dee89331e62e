"""How many things an owner may have: counted where they are added, one addition of an owner at a time."""

from sqlalchemy import ColumnElement, Connection, Table, func, select

from service.platform.errors import LimitReachedError


def one_at_a_time(connection: Connection, what: str) -> None:
    """Let one transaction at a time go on from here, of all that name the same. SQLite has one writer anyhow."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))


def require_fewer(connection: Connection, table: Table, owner: str, *more: ColumnElement[bool], than: int) -> None:
    """Raise LimitReachedError unless an owner has fewer rows in a table, of those that fulfil `more`."""
    one_at_a_time(connection, f"{table.name} of {owner}")
    query = select(func.count()).select_from(table).where(table.c.owner == owner, *more)
    if connection.execute(query).scalar_one() >= than:
        raise LimitReachedError(f"you have {than} already, which is the most; delete one that is not needed")
