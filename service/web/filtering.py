"""The filters of the list of jobs, as they stand in its address."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from service.jobs.schema import JobFilter, JobState

_MAX_CHARACTERS = 128


@dataclass(frozen=True)
class JobQuery:
    """What was typed. A value that means nothing filters nothing, and is shown so that it can be mended."""

    text: str = ""
    state: str = ""
    recipe: str = ""
    tag: str = ""
    since: str = ""
    until: str = ""
    sort: str = ""

    @classmethod
    def of(cls, typed: Mapping[str, str]) -> "JobQuery":
        """Return the filters of an address; `model_id` is what `text` was called before parts of names would do."""
        values = {field.name: typed.get(field.name, "").strip()[:_MAX_CHARACTERS] for field in fields(cls)}
        values["text"] = values["text"] or typed.get("model_id", "").strip()[:_MAX_CHARACTERS]
        return cls(**values)

    def filter(self, owner: str) -> JobFilter:
        """Return what the store can look for; the text is looked for in what it finds."""
        until = _day(self.until)
        return JobFilter(
            owner=owner,
            states=(JobState(self.state),) if self.state in set(JobState) else (),
            recipe=self.recipe or None,
            tag=self.tag or None,
            created_after=_day(self.since),
            created_before=until + timedelta(days=1) if until else None,
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is filtered."""
        return replace(self, sort="") == JobQuery()

    def address(self, **changes: str) -> str:
        """Return the query of an address with these filters, and with some of them replaced."""
        values = {field.name: getattr(self, field.name) for field in fields(self)} | changes
        return urlencode({name: value for name, value in values.items() if value})

    @property
    def has_more(self) -> bool:
        """Whether one of the filters that are folded away is in use."""
        return bool(self.recipe or self.tag or self.since or self.until)


def _day(typed: str) -> datetime | None:
    try:
        return datetime.combine(date.fromisoformat(typed), time(), UTC)
    except ValueError:
        return None
