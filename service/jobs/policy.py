"""The times a job store works with."""

from dataclasses import dataclass
from datetime import timedelta

IDEMPOTENCY_LIFETIME = timedelta(hours=24)
"""How long a key replays its job. Source: Stripe's API keeps keys for at least 24 hours."""
USAGE_WINDOW = timedelta(hours=24)
"""Over which the running time of an owner is counted."""
ROOM_AGAIN = timedelta(seconds=15)
"""When a job is offered to the workers again whose owner has as many at work as they may."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long a job waits before the attempt after a failed one: first, 4 x first, 16 x first, ... up to a limit."""

    first: timedelta = timedelta(seconds=15)
    limit: timedelta = timedelta(minutes=30)

    def delay(self, attempt: int) -> timedelta:
        """Return the wait after this attempt, counted from 1."""
        return min(self.first * (1 << 2 * min(attempt - 1, 16)), self.limit)
