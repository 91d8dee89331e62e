"""Opaque cursors over lists that are sorted by identifier, newest first."""

import base64
import binascii
import re

from service.platform.errors import InvalidCursorError

_IDENTIFIER = re.compile(r"[a-z]+_[0-9a-z]{26}")


def encode_cursor(last_id: str) -> str:
    """Return the cursor that continues after an identifier."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Return the identifier a cursor continues after.

    Raises:
        InvalidCursorError: the cursor was not made by `encode_cursor`.
    """
    try:
        last_id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise InvalidCursorError("the cursor is not one this service returned; start again without it") from error
    if not _IDENTIFIER.fullmatch(last_id):
        raise InvalidCursorError("the cursor is not one this service returned; start again without it")
    return last_id
