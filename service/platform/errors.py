"""Everything the ground refuses or fails at, as one tree with a stable code per leaf.

PlatformError
├── StoreUnavailableError       store_unavailable
├── UnstorableTextError         unstorable_text
├── UnreadableError             unreadable
├── LimitReachedError           limit_reached
└── InvalidCursorError          invalid_cursor
"""

from typing import ClassVar


class PlatformError(Exception):
    """A failure of the ground with a sentence for the caller."""

    code: ClassVar[str] = "platform_error"


class UnreadableError(PlatformError):
    """Something stored that this version cannot read: a newer one wrote it, or it was damaged."""

    code = "unreadable"


class InvalidCursorError(PlatformError):
    """A cursor that no list of ours ever returned."""

    code = "invalid_cursor"


class UnstorableTextError(PlatformError):
    """A text with a character that no database keeps: NUL, or half of a surrogate pair."""

    code = "unstorable_text"


class LimitReachedError(PlatformError):
    """As many things as an owner may have."""

    code = "limit_reached"


class StoreUnavailableError(PlatformError):
    """A database that does not answer."""

    code = "store_unavailable"
