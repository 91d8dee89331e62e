"""Which scratch directories nobody needs any more."""

from service.jobs.errors import JobNotFoundError
from service.jobs.schema import TERMINAL_STATES
from service.jobs.store import JobStore
from worker.workspace import Workspaces


def sweep_workspaces(workspaces: Workspaces, store: JobStore) -> list[str]:
    """Delete the scratch space of jobs that have ended or are unknown, and return their ids."""

    def is_over(job_id: str) -> bool:
        try:
            return store.get(job_id).state in TERMINAL_STATES
        except JobNotFoundError:
            return True

    return workspaces.sweep(is_over)
