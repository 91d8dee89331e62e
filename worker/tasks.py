"""The one task: hand a job's id to the supervisor."""

from typing import Any

from celery import shared_task

from service.jobs.queue import TASK_NAME
from worker.app import process_supervisor


@shared_task(name=TASK_NAME)  # type: ignore[untyped-decorator]  # celery ships no types
def run_job(job_id: str, attempt: int, **_later: Any) -> None:
    """See one attempt of a job through. Everything that can go wrong is written to the job, not raised here.

    Args:
        _later: What a newer service says beside that; in a rolling upgrade its messages reach this worker too.
    """
    process_supervisor().run(job_id, attempt)
