"""Which fields there are where one was misspelt, for messages that help."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel


def known_fields(model: type[BaseModel], location: Sequence[int | str]) -> tuple[str, ...]:
    """Return the fields of the model at a validation error's location, whose last part is the wrong name.

    Empty where no model can be told, for instance inside a list or where a tag picks none of a union.
    """
    found: type[BaseModel] | None = model
    choices: list[type[BaseModel]] = []
    for part in location[:-1]:
        tagged = [choice for choice in choices if _tag(choice) == part]
        if tagged:
            found, choices = tagged[0], []
        elif found is not None and part in found.model_fields:
            choices = list(_models(found.model_fields[str(part)].annotation))
            found = choices[0] if len(choices) == 1 else None
        else:
            return ()
    return () if found is None else tuple(found.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _tag(model: type[BaseModel]) -> object:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None
