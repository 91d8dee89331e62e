"""Rows of which one may be unreadable: it is logged and set aside, and the others are read all the same."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import structlog
from sqlalchemy import Row

from service.platform.errors import UnreadableError

T = TypeVar("T")
_log = structlog.get_logger(__name__)


def read_each(rows: Iterable[Row[Any]], read: Callable[[Row[Any]], T], *, what: str) -> tuple[list[T], list[Row[Any]]]:
    """Return the values of the rows that can be read, in order, and the rows that cannot, each logged with its id.

    Args:
        read: Raises UnreadableError for a row that this version cannot read.
        what: The word for a row in the log, for instance `job`.
    """
    found: list[T] = []
    unreadable: list[Row[Any]] = []
    for row in rows:
        try:
            found.append(read(row))
        except UnreadableError as error:
            _log.error("row_unreadable", what=what, id=str(row.id), reason=str(error))
            unreadable.append(row)
    return found, unreadable
