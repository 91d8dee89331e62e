"""How long a job will still take, as far as that can be told honestly."""

from datetime import datetime

from service.jobs.schema import TERMINAL_STATES, Job

# Below this share the time that is left would be a guess about a guess.
_FROM_PROGRESS = 0.05
_FROM_SECONDS = 10.0


def remaining_seconds(job: Job, now: datetime) -> float | None:
    """Return an estimate of the time left, or None when it would not be honest.

    Assumes that the rest goes as fast as what is done, which resumed work and evaluation may belie.
    """
    if job.started_at is None or job.state in TERMINAL_STATES or job.progress < _FROM_PROGRESS:
        return None
    elapsed = (now - job.started_at).total_seconds()
    if elapsed < _FROM_SECONDS:
        return None
    return elapsed * (1 - job.progress) / job.progress
