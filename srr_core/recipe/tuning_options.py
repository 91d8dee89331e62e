"""A fine-tuning as its user writes it: a start and a task by name, single fields by their dotted path."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from srr_core.errors import RecipeError
from srr_core.recipe.complaints import complaints
from srr_core.recipe.presets import merged
from srr_core.recipe.tuning import ArtifactStart, RecipeStart, TuningSpec, named_start

ARTIFACT = "artifact"
_GLUE = "glue:"


def parse_tuning(document: Mapping[str, Any]) -> TuningSpec:
    """Return the specification of a document.

    Raises:
        RecipeError: an unknown field, a value out of range, or parts that do not fit together.
    """
    try:
        return TuningSpec.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"invalid fine-tuning: {complaints(error, TuningSpec, whole='specification')}") from error


def with_names(document: Any) -> Any:
    """Return a document with a start and a task that are named spelt out; whatever else it is stays as it is.

    Where the start is named, `rank` is the adapter's, whether the start brings it or it is fresh.

    Raises:
        RecipeError: no start or task has this name, or the rank is none.
    """
    if not isinstance(document, Mapping):
        return document
    rest, spec = dict(document), TuningSpec()
    if isinstance(rest.get("start"), str):
        spec = with_start(spec, rest.pop("start"))
        rank = rest.get("rank")
        if isinstance(rank, int):
            spec = with_rank(spec, rank)
    if isinstance(rest.get("task"), str):
        spec = with_task(spec, rest.pop("task"))
    return {"start": spec.start.model_dump(mode="json"), "task": spec.task.model_dump(mode="json"), **rest}


def with_start(spec: TuningSpec, name: str) -> TuningSpec:
    """Return a specification with another start, its other fields kept; `artifact` takes the source as it is.

    Raises:
        RecipeError: no start has this name.
    """
    start = ArtifactStart() if name == ARTIFACT else named_start(name)
    return parse_tuning({**spec.model_dump(mode="json"), "start": start.model_dump(mode="json")})


def with_task(spec: TuningSpec, name: str) -> TuningSpec:
    """Return a specification with another task by its kind; one of GLUE is `glue:sst2`.

    Raises:
        RecipeError: no task has this name.
    """
    task = {"kind": "glue", "name": name.removeprefix(_GLUE)} if name.startswith(_GLUE) else {"kind": name}
    return parse_tuning({**spec.model_dump(mode="json"), "task": task})


def with_rank(spec: TuningSpec, rank: int) -> TuningSpec:
    """Return a specification whose adapter has a rank, whether the start brings it or it is fresh.

    Raises:
        RecipeError: the rank is out of range.
    """
    changes: dict[str, Any] = {"rank": rank}
    if isinstance(spec.start, RecipeStart) and spec.start.recipe.rank:
        changes["start.recipe.rank"] = rank
    return with_fields(spec, changes)


def with_fields(spec: TuningSpec, assignments: Mapping[str, Any]) -> TuningSpec:
    """Return a specification with dotted fields replaced, as `--set optimizer.learning_rate=1e-4` writes them.

    Raises:
        RecipeError: a path that leads nowhere, or a value out of range.
    """
    data = spec.model_dump(mode="json")
    # A kind first: it replaces what was said of another kind, whatever the order they were written in.
    for path, value in sorted(assignments.items(), key=lambda item: not item[0].endswith("kind")):
        patch: Any = value
        for part in reversed(path.split(".")):
            patch = {part: patch}
        data = merged(data, patch)
    return parse_tuning(data)
