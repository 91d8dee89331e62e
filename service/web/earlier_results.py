"""Earlier jobs of the same source, for the picture of a report; what is published knows nothing of them."""

import structlog

from service.jobs.errors import JobError
from service.jobs.ports import JobReading
from service.jobs.reports import compression_report
from service.jobs.schema import Job, JobFilter, JobState
from service.platform.errors import UnreadableError
from srr_core.telling.frontier import Earlier

_log = structlog.get_logger(__name__)
MOST = 12
"""Results beside one; with more of them no label could be read."""


def earlier_results(job: Job, store: JobReading) -> tuple[Earlier, ...]:
    """Return other compressions of the owner that began at the same commit, the newest first.

    One whose report cannot be read is left out, and so is one that was asked for twice.
    """
    if job.work.kind != "compress":
        return ()
    wanted = JobFilter(
        owner=job.owner, kind="compress", states=(JobState.SUCCEEDED,), model_id=job.work.source.model_id
    )
    found: list[Earlier] = []
    for other in store.list(wanted, limit=2 * MOST).jobs:
        if other.id == job.id or len(found) == MOST:
            continue
        try:
            report = compression_report(other, store.report(other.id))
        except (UnreadableError, JobError) as error:
            _log.warning("report_left_out", job_id=other.id, reason=str(error))
            continue
        if report not in (one.report for one in found):
            found.append(Earlier(report, other.id))
    return tuple(found)
