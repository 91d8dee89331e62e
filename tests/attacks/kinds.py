"""A request for each kind of work there is, so that an attack on one is tried on all."""

from collections.abc import Mapping
from typing import Any, get_args

from service.jobs.work import Work

FIELDS: Mapping[str, Mapping[str, Any]] = {
    "compress": {"recipe": "lqer"},
    "convert": {"target": "merged"},
    "evaluate": {"evaluators": ["perplexity"]},
    "finetune": {
        "tuning": {"start": "lora", "task": "instructions"},
        "data": {"text": '{"prompt": "say", "completion": "well"}\n' * 8},
    },
}
"""What a body has beside its kind, source and destination."""
KINDS = tuple(
    kind.model_fields["kind"].default
    for kind in get_args(get_args(Work)[0])  # Annotated[A | B | C, ...]
)
"""Every kind that the service knows; one without a row above fails the tests that use it."""


ARTIFACTS: Mapping[str, str] = {"org/model": "org/artifact"}
"""What a conversion takes where other work takes a model: it is refused for anything but an artifact."""


def body(kind: str, source: str, destination: str | None, **fields: Any) -> dict[str, Any]:
    """Return a request for a job; keyword arguments replace its fields."""
    model_id = ARTIFACTS.get(source, source) if kind == "convert" else source
    where = {
        "source": {"model_id": model_id},
        "destination": None if destination is None else {"repo_id": destination},
    }
    return {"kind": kind, **where, **FIELDS[kind], **fields}
