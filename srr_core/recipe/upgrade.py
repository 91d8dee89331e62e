"""Stored recipes as this version reads them: older forms are brought up to date, unknown fields are passed over.

`parse_recipe` is for what somebody types and refuses what it does not know; this is for what was accepted once.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from srr_core.errors import RecipeError
from srr_core.recipe.complaints import complaints
from srr_core.recipe.recipe import Recipe

RECIPE_SCHEMA_VERSION = 1
TUNING_SCHEMA_VERSION = 1
_UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By the version they upgrade from, each to the next one. The first change of a recipe's form adds the first."""
_PARTS_WITH_RECIPES = frozenset({"start", "result"})


def upgraded_recipe(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored recipe in the form of this version, not validated. One without a version is of the first."""
    recipe = dict(stored)
    version = recipe.pop("schema_version", 1)
    while version in _UPGRADES:
        recipe = _UPGRADES[version](recipe)
        version += 1
    return recipe


def read_recipe(stored: Mapping[str, Any]) -> Recipe:
    """Return a recipe that was stored by this version, an older or a newer one.

    Raises:
        RecipeError: it says something this version has no word for: an unknown kind, or a value out of range.
    """
    try:
        return Recipe.model_validate(upgraded_recipe(stored), extra="ignore")
    except ValidationError as error:
        raise RecipeError(
            f"a stored recipe cannot be read by this version: {complaints(error, Recipe, whole='recipe')}"
        ) from error


def upgraded_tuning(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored fine-tuning in the form of this version, not validated but for the recipes in it.

    Nothing of its form has changed yet; one of a later version is read as far as it is known.
    A recipe that this version has no words for stays as it was stored, and is refused where the rest is validated.
    """
    parts = {name: _with_recipe(part) if name in _PARTS_WITH_RECIPES else part for name, part in stored.items()}
    return parts | {"schema_version": TUNING_SCHEMA_VERSION}


def _with_recipe(part: Any) -> Any:
    recipe = part.get("recipe") if isinstance(part, Mapping) else None
    if not isinstance(recipe, Mapping):
        return part
    try:
        return {**part, "recipe": read_recipe(recipe)}
    except RecipeError:
        return part
