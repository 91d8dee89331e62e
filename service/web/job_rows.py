"""The list of jobs as a table of results: what is in a row, and what the rows may be ordered by."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from service.jobs.numbers import NO_NUMBERS, JobNumbers, numbers_of
from service.jobs.ports import JobReading
from service.jobs.reports import job_report
from service.jobs.schema import Job, JobFilter, JobState
from service.platform.errors import UnreadableError
from service.web.searching import Found, find_jobs, scanned
from service.web.wording import sentence

JOBS_PER_PAGE = 25
MAX_REPORTS_READ = 200
"""Whole reports that one page may read, where the job itself says no numbers."""
_REASON_CHARACTERS = 160
_DESCENDING = "-"


@dataclass(frozen=True)
class JobRow:
    """A job and what came of it."""

    job: Job
    numbers: JobNumbers = NO_NUMBERS

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took; None until it is over."""
        if self.job.started_at is None or self.job.finished_at is None:
            return None
        return (self.job.finished_at - self.job.started_at).total_seconds()

    @property
    def reason(self) -> str | None:
        """Why it failed, short; the page of the job has the whole."""
        failure = self.job.failure
        if failure is None or self.job.state is not JobState.FAILED:
            return None
        words = sentence(failure.message)
        return words if len(words) <= _REASON_CHARACTERS else f"{words[: _REASON_CHARACTERS - 1].rstrip()}…"


@dataclass(frozen=True)
class Order:
    """A column that rows can be ordered by, the best or smallest first unless the address says otherwise."""

    label: str
    value: Callable[[JobRow], float | None]


ORDERS: Final[Mapping[str, Order]] = {
    "kl": Order("KL", lambda row: row.numbers.divergence),
    "perplexity": Order("Perplexity", lambda row: row.numbers.perplexity_change),
    "bits": Order("Bits", lambda row: row.numbers.bits_of_model),
    "size": Order("Size", lambda row: row.numbers.size_bytes),
    "time": Order("Time", lambda row: row.seconds),
}
"""By their names in the address; with a dash before it, the order is the other way round."""


@dataclass(frozen=True)
class Heading:
    """The head of a column: where a click leads, and how rows stand now."""

    label: str
    sort: str
    direction: str | None
    """ascending, descending, or None where rows are ordered by something else."""


@dataclass(frozen=True)
class Listing:
    """One page of the table."""

    rows: tuple[JobRow, ...]
    found: Found
    page: int = 1
    next_page: int | None = None
    """Of an ordered list; one that is newest first goes on by its cursor."""


def is_order(sort: str) -> bool:
    """Whether there is a column of this name."""
    return sort.removeprefix(_DESCENDING) in ORDERS


def headings(sort: str) -> dict[str, Heading]:
    """Return the head of every column by its name; a second click turns the order round."""
    return {name: _heading(name, order, sort) for name, order in ORDERS.items()}


def list_jobs(
    store: JobReading, filter: JobFilter, text: str, *, sort: str = "", cursor: str | None = None, page: int = 1
) -> Listing:
    """Return a page of jobs, newest first, or ordered by a column among the latest that one page looks through.

    Jobs without a value in that column come last, newest first. Raises InvalidCursorError.
    """
    if not is_order(sort):
        found = find_jobs(store, filter, text, limit=JOBS_PER_PAGE, cursor=cursor)
        return Listing(tuple(read_rows(store, found.jobs)), found)
    found = scanned(store, filter, text)
    ordered = _ordered(read_rows(store, found.jobs), sort)
    begin = (page - 1) * JOBS_PER_PAGE
    following = page + 1 if begin + JOBS_PER_PAGE < len(ordered) else None
    shown = tuple(ordered[begin : begin + JOBS_PER_PAGE])
    return Listing(shown, replace(found, jobs=tuple(row.job for row in shown)), page, following)


def read_rows(store: JobReading, jobs: Iterable[Job]) -> list[JobRow]:
    """Return rows with their numbers: from the job where it has them, otherwise from its report."""
    rows, left = [], MAX_REPORTS_READ
    for job in jobs:
        numbers = NO_NUMBERS
        if job.result is not None and job.result.numbers is not None:
            numbers = job.result.numbers
        elif job.has_report and left > 0:
            left -= 1
            numbers = _reported(store, job)
        rows.append(JobRow(job, numbers))
    return rows


def _reported(store: JobReading, job: Job) -> JobNumbers:
    try:
        return numbers_of(job_report(job, store.report(job.id)))
    except UnreadableError:
        return NO_NUMBERS


def _ordered(rows: Sequence[JobRow], sort: str) -> list[JobRow]:
    order, sign = ORDERS[sort.removeprefix(_DESCENDING)], -1 if sort.startswith(_DESCENDING) else 1

    def key(row: JobRow) -> tuple[bool, float]:
        value = order.value(row)
        return value is None, 0.0 if value is None else sign * value

    return sorted(rows, key=key)


def _heading(name: str, order: Order, sort: str) -> Heading:
    if sort == name:
        return Heading(order.label, f"{_DESCENDING}{name}", "ascending")
    return Heading(order.label, name, "descending" if sort == f"{_DESCENDING}{name}" else None)
