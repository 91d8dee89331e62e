"""Which jobs would compute the same artifact."""

import hashlib
import json

from service.jobs.work import JobText, WorkBase
from srr_core.recipe import Recipe

_OTHERWISE_COUNTED = frozenset({"kind", "source"})
_NO_PART_OF_THE_RESULT = frozenset({"acknowledge_license"})


def content_key(work: WorkBase, *, source_sha: str, core_version: str) -> str:
    """Return a digest of everything a result follows from, and of where it goes.

    Work with the same key makes the same bits in the same repository.

    Args:
        work: With its texts by digest.
    """
    parts: dict[str, object] = {"source": [work.source.model_id, source_sha], "core": core_version}
    dumped = work.model_dump(mode="json")
    for name in type(work).model_fields.keys() - _OTHERWISE_COUNTED - _NO_PART_OF_THE_RESULT:
        parts[name] = _part(getattr(work, name), dumped[name])
    if work.kind != "compress":  # which keys of the first version do not name
        parts["kind"] = work.kind
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _part(value: object, dumped: object) -> object:
    if isinstance(value, Recipe):  # what it is compared with is not in the weights, but in the report beside them
        return [value.digest(), *value.baselines] if value.baselines else value.digest()
    if isinstance(value, JobText):
        return [value.sha256, value.num_sequences, value.sequence_length]
    return dumped
