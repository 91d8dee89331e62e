"""What is known of each job from the outside: its row, its events, its layers on disk, its commits."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.customers import Customers
from tests.chaos.stores import PostgresNode

TERMINAL = frozenset({"succeeded", "failed", "canceled"})
_LIST_STATES = "SELECT id, state, stage, attempt FROM jobs"


@dataclass(frozen=True)
class Seen:
    """A job as it was a moment ago."""

    job_id: str
    state: str
    stage: str | None
    attempt: int


@dataclass
class JobRecord:
    """A job at the end of a run, as the API tells of it."""

    job: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] | None = None

    @property
    def state(self) -> str:
        """How it ended."""
        return str(self.job["state"])

    @property
    def states(self) -> list[str]:
        """Every state it was in, in order."""
        return [event["data"]["state"] for event in self.events if event["kind"] == "state"]

    @property
    def told_layers(self) -> set[str]:
        """Layers there is an event of."""
        return {event["data"]["layer"] for event in self.events if event["kind"] == "layer"}

    @property
    def layers(self) -> set[str]:
        """Layers its report names."""
        return {layer["name"] for layer in (self.report or {}).get("layers", [])}


def look(postgres: PostgresNode) -> dict[str, Seen] | None:
    """Return every job as it is now, or None while the database is away."""
    try:
        return {row[0]: Seen(*row) for row in postgres.query(_LIST_STATES)}
    except psycopg.Error:
        return None


def read_job(customers: Customers, job_id: str, *, seconds: float = 30) -> JobRecord:
    """Read all of a job over REST. Raises TimeoutError when the service does not answer."""
    record = JobRecord(_read(customers, f"/v1/jobs/{job_id}", seconds))
    while True:
        after = record.events[-1]["sequence"] if record.events else 0
        page = _read(customers, f"/v1/jobs/{job_id}/logs?after={after}", seconds)["events"]
        if not page:
            break
        record.events += page
    if record.state == "succeeded":
        record.report = _read(customers, f"/v1/jobs/{job_id}/report", seconds)
    return record


def _read(customers: Customers, path: str, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < deadline:
        response = customers.ask("GET", path, turn=turn)
        if response is not None and response.status_code == 200:
            answer: dict[str, Any] = response.json()
            return answer
        turn += 1
        time.sleep(0.2)
    raise TimeoutError(f"no answer to {path} in {seconds:g} s")


def computed_layers(journal: Path) -> Counter[str]:
    """Return how many layers the core has made durable for each job."""
    if not journal.exists():
        return Counter()
    return Counter(line.split()[2] for line in journal.read_text().splitlines())
