"""Follows the events of jobs for any number of readers at the price of one reader per job."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import structlog

from service.jobs.errors import JobError
from service.jobs.ports import JobReading
from service.jobs.schema import TERMINAL_STATES, JobEvent
from service.platform.errors import PlatformError

BATCH = 500
# A slow reader that falls behind this many events reads the rest from the database by itself.
RETAINED_EVENTS = 2000
_log = structlog.get_logger(__name__)


class TooManyStreamsError(Exception):
    """This process serves as many event streams as it is allowed to, in all or to this owner."""

    code = "too_many_streams"


@dataclass
class _FollowedJob:
    """One job being read. Every event above `floor` and up to `head` is in `events`."""

    floor: int
    head: int
    events: deque[JobEvent] = field(default_factory=deque)
    readers: int = 0
    is_over: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def extend(self, events: Sequence[JobEvent]) -> None:
        self.events.extend(events)
        self.head = events[-1].sequence
        while len(self.events) > RETAINED_EVENTS:
            self.floor = self.events.popleft().sequence

    def after(self, sequence: int) -> Sequence[JobEvent] | None:
        """Return retained events above a sequence number, or None when some of them are no longer retained."""
        if sequence < self.floor:
            return None
        return [event for event in self.events if event.sequence > sequence]

    def announce(self) -> None:
        """Wake every reader; each then waits for the next news."""
        self.news.set()
        self.news = asyncio.Event()


class EventFeed:
    """Reads each followed job once per interval, however many streams show it.

    Belongs to one event loop. The database is asked in a thread, so that it never blocks the others.
    """

    def __init__(
        self, store: JobReading, *, poll_seconds: float, max_streams: int, max_streams_of_one: int | None = None
    ) -> None:
        """Build a feed; `max_streams_of_one` is the share of an owner, all of it by default."""
        self._store = store
        self._max_streams_of_one = max_streams_of_one or max_streams
        self._by_owner: Counter[str] = Counter()
        self._poll_seconds = poll_seconds
        self._max_streams = max_streams
        self._followed: dict[str, _FollowedJob] = {}

    @property
    def streams(self) -> int:
        """How many readers follow a job now."""
        return sum(followed.readers for followed in self._followed.values())

    def require_room(self, owner: str) -> None:
        """Raise TooManyStreamsError when no further stream, or none of this owner, may start."""
        if self._by_owner[owner] >= self._max_streams_of_one:
            raise TooManyStreamsError(
                f"you follow {self._max_streams_of_one} event streams already; close some, or poll the job instead"
            )
        if self.streams >= self._max_streams:
            raise TooManyStreamsError(
                f"this server follows {self._max_streams} event streams already; poll the job instead, or try again"
            )

    async def follow(self, job_id: str, *, owner: str = "", after: int = 0) -> AsyncIterator[JobEvent]:
        """Yield the events of a job in order, each once, and end when the job has ended.

        Ends at once when others of the owner, who asked at the same time, have taken the room, and early when the
        database cannot be read; the client comes back with the last id it saw.
        """
        try:
            self.require_room(owner)
        except TooManyStreamsError:
            return
        followed = self._join(job_id, after)
        self._by_owner[owner] += 1
        try:
            while True:
                news = followed.news
                batch = followed.after(after)
                if batch is None:
                    batch = await asyncio.to_thread(self._store.events, job_id, after=after, limit=BATCH)
                for event in batch:
                    after = event.sequence
                    yield event
                if not batch and followed.is_over:
                    return
                if not batch:
                    await news.wait()
        finally:
            self._leave(job_id, followed)
            self._by_owner -= Counter({owner: 1})  # drops what has come to nothing

    def _join(self, job_id: str, after: int) -> _FollowedJob:
        followed = self._followed.get(job_id)
        if followed is None:
            followed = self._followed[job_id] = _FollowedJob(floor=after, head=after)
            followed.task = asyncio.create_task(self._read(job_id, followed))
        followed.readers += 1
        return followed

    def _leave(self, job_id: str, followed: _FollowedJob) -> None:
        followed.readers -= 1
        if followed.readers == 0 and followed.task is not None:
            followed.task.cancel()
            if self._followed.get(job_id) is followed:
                del self._followed[job_id]

    async def _read(self, job_id: str, followed: _FollowedJob) -> None:
        try:
            while not followed.is_over:
                # The job before its events: when it has ended by now, the events that follow are all of them.
                job = await asyncio.to_thread(self._store.get, job_id)
                events = await asyncio.to_thread(self._store.events, job_id, after=followed.head, limit=BATCH)
                if events:
                    followed.extend(events)
                followed.is_over = job.state in TERMINAL_STATES and len(events) < BATCH
                if events or followed.is_over:
                    followed.announce()
                if len(events) < BATCH and not followed.is_over:
                    await asyncio.sleep(self._poll_seconds)
        except (JobError, PlatformError) as error:
            _log.warning("event_feed_interrupted", job_id=job_id, code=error.code)
        finally:
            followed.is_over = True
            followed.announce()
            if self._followed.get(job_id) is followed:
                del self._followed[job_id]
