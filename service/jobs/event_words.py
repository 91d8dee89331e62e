"""States and events of a job in words: the same in the log of a page and on a terminal."""

from collections.abc import Mapping
from typing import Any

from service.jobs.schema import JobState

STATE_LABELS: Mapping[JobState, str] = {
    JobState.QUEUED: "Queued",
    JobState.RUNNING: "Running",
    JobState.PUBLISHING: "Publishing",
    JobState.CANCELING: "Canceling",
    JobState.SUCCEEDED: "Succeeded",
    JobState.FAILED: "Failed",
    JobState.CANCELED: "Canceled",
}


def event_words(kind: str, data: Mapping[str, Any]) -> str | None:
    """Return what a log says of an event, or None for those that it leaves to pictures and to progress bars."""
    if kind == "log":
        return str(data.get("message", ""))
    return _state_words(data) if kind == "state" else None


def _state_words(data: Mapping[str, Any]) -> str:
    state = data.get("state")
    label = STATE_LABELS[JobState(state)] if state in set(JobState) else str(state)
    failure = data.get("failure")
    reason = f": {failure.get('message')}" if isinstance(failure, Mapping) else ""
    attempt = data.get("attempt")
    return f"{label}{f' (attempt {attempt})' if isinstance(attempt, int) and attempt > 1 else ''}{reason}"
