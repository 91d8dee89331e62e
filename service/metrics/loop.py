"""How late the event loop is: while something holds it, nobody is answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from prometheus_client import Histogram

_log = structlog.get_logger(__name__)
INTERVAL_SECONDS = 0.1
"""Between two looks: what holds the loop for less than that may be missed, and costs nobody much."""
TOO_LATE_SECONDS = 0.25
"""Nothing may hold the loop for longer; where something does, the log says so."""
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, TOO_LATE_SECONDS, 0.5, 1.0, 2.5, 10.0)


def loop_lag() -> Histogram:
    """Return the metric, of one process. It belongs to no registry yet."""
    return Histogram(
        "srr_event_loop_lag_seconds",
        "How much later than asked for the event loop of this process came back.",
        buckets=_BUCKETS,
        registry=None,
    )


@asynccontextmanager
async def watched_loop(lag: Histogram, *, interval_seconds: float = INTERVAL_SECONDS) -> AsyncIterator[None]:
    """Measure the running loop while the body runs."""
    task = asyncio.create_task(_watch(lag, interval_seconds), name="loop-watch")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _watch(lag: Histogram, interval_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval_seconds
        await asyncio.sleep(interval_seconds)
        late = max(0.0, loop.time() - due)
        lag.observe(late)
        if late > TOO_LATE_SECONDS:
            _log.warning("event_loop_held", seconds=round(late, 3))
