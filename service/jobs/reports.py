"""Reports of jobs, one kind of document for each kind of work, as the worker of whatever version wrote them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from service.jobs.schema import Job
from service.platform.errors import UnreadableError
from srr_core.conversion_report import ConversionReport, read_conversion_report
from srr_core.evaluation_report import EvaluationReport, read_evaluation_report
from srr_core.report import Report, read_report
from srr_core.tuners.report import TuningReport, read_tuning_report

AnyReport = Report | EvaluationReport | TuningReport | ConversionReport

_READERS: Mapping[str, Callable[[Mapping[str, Any]], AnyReport]] = MappingProxyType(
    {
        "compress": read_report,
        "evaluate": read_evaluation_report,
        "finetune": read_tuning_report,
        "convert": read_conversion_report,
    }
)
"""By kind of work."""


def job_report(job: Job, stored: Mapping[str, Any]) -> AnyReport:
    """Return the report of a job.

    Raises:
        UnreadableError: this version cannot read it; as JSON it is still there.
    """
    try:
        return _READERS[job.work.kind](stored)
    except ValueError as error:
        raise UnreadableError(
            f"the report of job {job.id} cannot be read by this version of the service; it is there as JSON"
        ) from error


def compression_report(job: Job, stored: Mapping[str, Any]) -> Report:
    """Return the report of a compression. Raises UnreadableError, also for a job of another kind."""
    report = job_report(job, stored)
    if not isinstance(report, Report):
        raise UnreadableError(f"job {job.id} is not a compression, so its report is of another kind")
    return report
