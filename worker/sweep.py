"""Which scratch directories nobody needs any more."""

import structlog

from service.jobs.errors import JobNotFoundError
from service.jobs.ports import JobReading
from service.jobs.schema import TERMINAL_STATES
from service.platform.errors import UnreadableError
from worker.workspace import Workspaces

_log = structlog.get_logger(__name__)


def sweep_workspaces(workspaces: Workspaces, store: JobReading) -> list[str]:
    """Delete the scratch space of jobs that have ended or are unknown, and return their ids."""

    def is_over(job_id: str) -> bool:
        try:
            return store.get(job_id).state in TERMINAL_STATES
        except JobNotFoundError:
            return True
        except UnreadableError as error:
            _log.warning("workspace_kept", job_id=job_id, code=error.code)
            return False

    return workspaces.sweep(is_over)
