"""The same job with one bit more or less, as the form would be filled in: nothing else changes."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from service.jobs.schema import Job
from service.jobs.work import CompressWork
from service.web.again import base_of, values_of
from service.web.forms import FormError, chosen_recipe, default_destination
from srr_core.recipe import Recipe

Change = Literal["less", "more"]
_BY: Final[dict[Change, int]] = {"less": -1, "more": 1}
_LONGEST_NAME: Final = 96
_BITS: Final = re.compile(r"-\d+(\.\d+)?bit")


@dataclass(frozen=True)
class Other:
    """One of both."""

    change: Change
    """In the address of the form."""
    words: str


def other_bits(job: Job, work: CompressWork, *, owner: str) -> tuple[Other, ...]:
    """Return what can be tried; nothing where a recipe has no such bits, or aims at a size or at a loss."""
    found = []
    for change in _BY:
        values = with_other_bits(job, work, change, owner=owner)
        if values is not None:
            found.append(Other(change, f"{values['num_bits'] or values['target_bits']} bits"))
    return tuple(found)


def with_other_bits(job: Job, work: CompressWork, change: Change, *, owner: str) -> dict[str, str] | None:
    """Return the fields of the form for a job with one bit more or less, or None where its recipe does not take it.

    The destination is named anew, because the result would lie on top of the one there is.

    Args:
        owner: Whose namespace an unnamed destination lies in.
    """
    recipe, values = work.recipe, values_of(job, work)
    budget = recipe.budget
    if budget is None:
        values["num_bits"] = str(recipe.quantization_bits + _BY[change])
    elif budget.target_bits is not None:
        values["target_bits"] = f"{budget.target_bits + _BY[change]:g}"
    else:
        return None
    try:
        chosen = chosen_recipe(values, base=base_of(job))
    except FormError:
        return None
    return values | {"repo_id": _renamed(work, recipe, chosen, owner)}


def _renamed(work: CompressWork, recipe: Recipe, chosen: Recipe, owner: str) -> str:
    """Return the name for the other result; empty where the form finds it by itself."""
    repo_id, model_id = work.destination.repo_id, work.source.model_id
    # A name that the form found says how many bits the result has; it finds that of the other one as well.
    derived = default_destination(model_id, recipe, owner=owner).rpartition("-")[0]
    is_derived = repo_id.startswith(derived) and _BITS.fullmatch(repo_id.removeprefix(derived)) is not None
    return "" if is_derived else _suffixed(repo_id, chosen)


def _suffixed(repo_id: str, chosen: Recipe) -> str:
    bits = chosen.budget.target_bits if chosen.budget is not None else None
    suffix = f"-{bits:g}bit" if bits is not None else f"-{chosen.quantization_bits}bit"
    return f"{repo_id[: _LONGEST_NAME - len(suffix)]}{suffix}"
