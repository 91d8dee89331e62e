"""Checkpoints that outlive their job: which there are, and the work that publishes one or goes on from it."""

from collections.abc import Callable
from typing import Any

from service.jobs.errors import InvalidJobError
from service.jobs.ports import JobReading
from service.jobs.reports import job_report
from service.jobs.schema import Job, JobState, JobSubmission
from service.jobs.work import FinetuneWork, JobDestination, JobSource, StoredText
from service.platform.errors import UnreadableError
from srr_core.recipe.tuning import ArtifactStart, GridSpec, RecompressedResult, TuningSpec
from srr_core.tuners.kept import require_kept
from srr_core.tuners.report import TuningReport

ReadText = Callable[[str], str]
"""A stored text by its digest."""


def kept_checkpoints(job: Job, store: JobReading) -> tuple[int, ...]:
    """Return the steps of the checkpoints that were published with the result of a job; none while it has no result.

    None either where the report is of a version that this one cannot read.
    """
    if job.work.kind != "finetune" or job.state is not JobState.SUCCEEDED:
        return ()
    try:
        report = job_report(job, store.report(job.id))
    except UnreadableError:
        return ()
    return report.kept if isinstance(report, TuningReport) else ()


def started_at(job: Job, step: int) -> FinetuneWork:
    """Return the work of a fine-tuning that goes on from a checkpoint of a job, everything else as it was there.

    So its result is of the same form, merged where that of the job is.

    Raises:
        InvalidJobError: the job is no fine-tuning, or has published nothing yet.
    """
    work, result = job.work, job.result
    if not isinstance(work, FinetuneWork):
        raise InvalidJobError(f"job {job.id} is not a fine-tuning, so it has no checkpoints")
    if result is None:
        raise InvalidJobError(
            f"job {job.id} has published nothing; its checkpoints are on its worker, and are published with its result "
            "where checkpoints.publish is true"
        )
    return work.model_copy(
        update={
            "source": JobSource(model_id=result.repo_id, revision=result.commit_sha),
            "tuning": _going_on(work.tuning, step),
            "calibration": work.calibration if isinstance(work.tuning.result, RecompressedResult) else None,
        }
    )


def publication(
    job: Job, step: int, *, destination: JobDestination, kept: tuple[int, ...], read_text: ReadText
) -> JobSubmission:
    """Return the work that measures a checkpoint on the data of its job and publishes it by itself.

    Args:
        destination: Another repository than that of the job, whose result stays what it is.
        kept: What `kept_checkpoints` says.
    Raises:
        InvalidJobError: the job is no fine-tuning, or has published nothing yet.
        RecipeError: this checkpoint was not kept; the message says which were.
    """
    work = started_at(job, step)
    require_kept(work.source.model_id, step, kept)
    schedule = work.tuning.schedule.model_copy(update={"max_steps": 0})
    tuning = work.tuning.model_copy(update={"schedule": schedule})
    changes: dict[str, Any] = {
        name: _with_text(getattr(work, name), read_text) for name in ("data", "validation", "neutral", "calibration")
    }
    work = work.model_copy(update={**changes, "destination": destination, "tuning": tuning})
    return JobSubmission(work=work, tags=job.tags)


def _going_on(tuning: TuningSpec, step: int) -> TuningSpec:
    checkpoints = tuning.checkpoints.model_copy(update={"publish": False})
    return tuning.model_copy(
        update={
            "start": ArtifactStart(checkpoint=step),
            "grid": GridSpec(),
            "checkpoints": checkpoints,
        }
    )


def _with_text(value: object, read_text: ReadText) -> object:
    """Return a text that a job named with its content, which the caller of another job need not upload again."""
    if not isinstance(value, StoredText) or value.sha256 is None:
        return value
    return value.model_copy(update={"text": read_text(value.sha256), "sha256": None})
