"""Stored documents: read leniently; one that cannot be read is logged and set aside, and the others are read."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy import Row

from service.platform.errors import UnreadableError

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
_log = structlog.get_logger(__name__)


def read_stored(model: type[M], values: Mapping[str, Any], *, what: str) -> M:
    """Return a value that was stored by this version, an older or a newer one; fields it does not know are ignored.

    Args:
        what: The word for the value in messages, for instance `watch`.

    Raises:
        UnreadableError: it says something that this version has no word for.
    """
    try:
        return model.model_validate(values, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnreadableError(
            f"{what} {values.get('id')} cannot be read by this version of the service: {where}: {first['msg']}"
        ) from error


def read_each(rows: Iterable[Row[Any]], read: Callable[[Row[Any]], T], *, what: str) -> tuple[list[T], list[Row[Any]]]:
    """Return the values of the rows that can be read, in order, and the rows that cannot, each logged with its id.

    Args:
        read: Raises UnreadableError for a row that this version cannot read.
        what: The word for a row in the log.
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
