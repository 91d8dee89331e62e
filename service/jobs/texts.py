"""Texts apart from jobs: a job is a few kilobytes and listed often, its calibration text is read once."""

import hashlib

from service.jobs.errors import InvalidJobError
from service.jobs.schema import Job, JobText


def detach_texts(job: Job) -> tuple[Job, dict[str, str]]:
    """Return the job with each text replaced by its SHA-256, and the texts by that digest.

    Raises:
        InvalidJobError: a digest came without its text, or a text is not valid Unicode.
    """
    texts: dict[str, str] = {}
    calibration = _detach(job.calibration, texts)
    evaluation = _detach(job.evaluation, texts)
    return job.model_copy(update={"calibration": calibration, "evaluation": evaluation}), texts


def _detach(text: JobText | None, texts: dict[str, str]) -> JobText | None:
    if text is None:
        return None
    if text.text is None:
        if text.sha256 is not None:
            raise InvalidJobError("sha256 is set by the service; send the text itself")
        return text
    try:
        digest = hashlib.sha256(text.text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise InvalidJobError("a text holds a lone surrogate, which is not valid Unicode") from error
    texts[digest] = text.text
    return text.model_copy(update={"text": None, "sha256": digest})
