"""Which jobs would compute the same artifact."""

import hashlib
import json

from service.jobs.schema import JobSubmission, JobText


def content_key(submission: JobSubmission, *, source_sha: str, core_version: str) -> str:
    """Return a digest of everything a result follows from, and of where it goes.

    Two submissions with the same key ask for the same bits in the same repository. Pass it to `submit` unless
    the caller insists on another run.
    """
    parts = {
        "source": [submission.source.model_id, source_sha],
        "recipe": submission.recipe.digest(),
        "core": core_version,
        "calibration": _text(submission.calibration),
        "evaluation": _text(submission.evaluation),
        "destination": submission.destination.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _text(text: JobText | None) -> object:
    if text is None:
        return None
    digest = None if text.text is None else hashlib.sha256(text.text.encode(errors="surrogatepass")).hexdigest()
    return [digest, text.num_sequences, text.sequence_length]
