"""Jobs whose model or destination contains a text. The store compares whole names, so this looks through its pages."""

from dataclasses import dataclass

from service.jobs.ports import JobReading
from service.jobs.schema import Job, JobFilter, UnreadableJob
from service.platform.paging import encode_cursor

_BATCH = 250
MAX_SCANNED = 2000
"""Jobs looked through for one page, newest first: about a fifth of a second. The next page goes on behind them."""


@dataclass(frozen=True)
class Found:
    """One page of what was found."""

    jobs: tuple[Job, ...]
    next_cursor: str | None
    unreadable: tuple[UnreadableJob, ...] = ()
    """Those of the page that this version cannot read."""
    is_cut: bool = False
    """Whether the page ended because enough was looked through, not because it is full."""


def find_jobs(store: JobReading, filter: JobFilter, text: str, *, limit: int, cursor: str | None = None) -> Found:
    """Return one page, newest first. Raises InvalidCursorError."""
    if not text:
        page = store.list(filter, limit=limit, cursor=cursor)
        return Found(page.jobs, page.next_cursor, page.unreadable)
    found: list[Job] = []
    for _ in range(MAX_SCANNED // _BATCH):
        page = store.list(filter, limit=_BATCH, cursor=cursor)
        found += [job for job in page.jobs if contains(job, text)]
        cursor = page.next_cursor
        if len(found) > limit:
            return Found(tuple(found[:limit]), encode_cursor(found[limit - 1].id))
        if cursor is None:
            return Found(tuple(found), None)
    return Found(tuple(found), cursor, is_cut=True)


def scanned(store: JobReading, filter: JobFilter, text: str) -> Found:
    """Return every job that matches among the latest `MAX_SCANNED`, newest first, on one page."""
    found: list[Job] = []
    strange: list[UnreadableJob] = []
    cursor: str | None = None
    for _ in range(MAX_SCANNED // _BATCH):
        page = store.list(filter, limit=_BATCH, cursor=cursor)
        found += [job for job in page.jobs if not text or contains(job, text)]
        strange += page.unreadable
        cursor = page.next_cursor
        if cursor is None:
            break
    return Found(tuple(found), None, tuple(strange), is_cut=cursor is not None)


def contains(job: Job, text: str) -> bool:
    """Whether a text is part of the names a job is known by; case does not count."""
    return any(text.casefold() in name.casefold() for name in (job.work.source.model_id, job.work.destination_id))
