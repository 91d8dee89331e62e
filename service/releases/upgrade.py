"""Stored watches as this version reads them: older forms are brought up to date, unknown fields are ignored."""

from collections.abc import Callable, Mapping
from typing import Any

from service.platform.stored import read_stored
from service.releases.schema import Watch, WatchRules
from srr_core.recipe.upgrade import upgraded_recipe

RULES_SCHEMA_VERSION = 1
_UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By the version they upgrade from, each to the next one. The first change of the rules' form adds the first."""


def read_rules(stored: Mapping[str, Any]) -> WatchRules:
    """Return the rules of a watch. Raises UnreadableError."""
    return read_stored(WatchRules, _upgraded(stored), what="rules of a watch")


def read_watch(stored: Mapping[str, Any]) -> Watch:
    """Return a watch from its columns, its rules among them. Raises UnreadableError."""
    values = dict(stored)
    return read_stored(Watch, _upgraded(values.pop("rules")) | values, what="watch")


def _upgraded(stored: Mapping[str, Any]) -> dict[str, Any]:
    rules = dict(stored)
    version = rules.pop("schema_version", 1)
    while version in _UPGRADES:
        rules = _UPGRADES[version](rules)
        version += 1
    recipes = rules.get("recipes") or ()
    rules["recipes"] = [upgraded_recipe(recipe) if isinstance(recipe, Mapping) else recipe for recipe in recipes]
    return rules
