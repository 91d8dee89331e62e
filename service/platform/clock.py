"""The time everything is stamped with."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time every lease and event is stamped with; hosts are expected to run NTP."""
    return datetime.now(UTC)
