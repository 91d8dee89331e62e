"""How long a run waits for its jobs: as long as something moves."""

import time
from collections.abc import Callable, Mapping

from tests.chaos.records import Seen


class Patience:
    """Ends when nothing has moved for a while: on a busy machine jobs are slow, and only one that stands still is lost.

    Attempts of a job are bounded, and so is the number of its stages; nothing moves for ever.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._last: Mapping[str, Seen] = {}
        self._moved_at = clock()

    def lasts(self, seen: Mapping[str, Seen]) -> bool:
        """Look at every job, and return whether it is worth waiting on."""
        if seen != self._last:
            self._last, self._moved_at = dict(seen), self._clock()
        return self._clock() - self._moved_at < self._seconds
