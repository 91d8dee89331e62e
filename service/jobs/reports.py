"""Reports of jobs, as the worker of whatever version wrote them."""

from collections.abc import Mapping
from typing import Any

from service.platform.errors import UnreadableError
from srr_core.report import Report, read_report


def job_report(job_id: str, stored: Mapping[str, Any]) -> Report:
    """Return the report of a job.

    Raises:
        UnreadableError: this version cannot read it; as JSON it is still there.
    """
    try:
        return read_report(stored)
    except ValueError as error:
        raise UnreadableError(
            f"the report of job {job_id} cannot be read by this version of the service; it is there as JSON"
        ) from error
