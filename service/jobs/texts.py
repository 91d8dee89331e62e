"""Texts apart from jobs: a job is a few kilobytes and listed often, its calibration text is read once."""

import hashlib

from service.jobs.errors import InvalidJobError
from service.jobs.work import StoredText, Work


def detach_texts(work: Work) -> tuple[Work, dict[str, str]]:
    """Return the work with each text replaced by its SHA-256, and the texts by that digest.

    Raises:
        InvalidJobError: a text came with a digest, or is not valid Unicode.
    """
    texts: dict[str, str] = {}
    fields = ((name, getattr(work, name)) for name in type(work).model_fields)
    detached = {name: _detach(value, texts) for name, value in fields if isinstance(value, StoredText)}
    return work.model_copy(update=detached), texts


def _detach(text: StoredText, texts: dict[str, str]) -> StoredText:
    if text.text is None:
        return text
    if text.sha256 is not None:
        raise InvalidJobError("give a text or the sha256 of one that was uploaded, not both")
    try:
        digest = hashlib.sha256(text.text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise InvalidJobError("a text holds a lone surrogate, which is not valid Unicode") from error
    texts[digest] = text.text
    return text.model_copy(update={"text": None, "sha256": digest})
