"""The form of a watch: what was typed becomes rules, or a message beside each wrong field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData

from service.releases.bodies import WatchBody, rules_of
from service.releases.errors import InvalidWatchError
from service.releases.matching import check_rules
from service.releases.schema import Watch, WatchRules
from service.web.forms import TARGETS_OF_SIZE, VISIBILITY, FormError, with_target_of_size
from service.web.wording import complaints, sentence
from srr_core.errors import RecipeError
from srr_core.recipe import DEFAULT_RECIPE, PRESETS, Recipe

TEXT_FIELDS = (
    "name",
    "pattern",
    "namespace",
    "branches",
    "tags",
    "destination",
    "visibility",
    "max_gibibytes",
    "per_day",
    *TARGETS_OF_SIZE,
)
_GIBIBYTE = 1024**3
_VISIBILITY_WORDS = {value: word for word, value in VISIBILITY.items()}
_STORED = "stored:"
"""Begins the choice of a recipe that a watch holds and that has no name of ours: it is kept, not made here."""
_OWN = {
    "pattern": "Write it as organization/name; only the name may hold * and ?.",
    "branches": "Names or patterns, separated by commas; empty for none.",
    "tags": "Names or patterns, separated by commas; empty for none.",
    "recipes": "Choose one to eight recipes.",
}


@dataclass(frozen=True)
class WatchForm:
    """What was typed, not looked at yet."""

    values: Mapping[str, str]
    recipes: Sequence[str] = ()
    stored: Sequence[Recipe] = field(default=())
    """Recipes of the watch that is changed."""

    @property
    def is_enabled(self) -> bool:
        """Whether the watch is to be at work."""
        return self.values.get("enabled", "on") == "on"

    @property
    def recipe_rows(self) -> list[tuple[str, str, bool]]:
        """Every recipe that can be chosen: its value, the words for it, and whether it is chosen."""
        rows = [(name, f"{name}: {recipe.title}") for name, recipe in PRESETS.items()]
        rows += [
            (f"{_STORED}{number}", f"{recipe.name}, with options of its own")
            for number, recipe in enumerate(self.stored)
            if PRESETS.get(recipe.name) != recipe
        ]
        return [(value, words, value in self.recipes) for value, words in rows]


def empty_form() -> WatchForm:
    """Return the form of a new watch."""
    values = dict.fromkeys(TEXT_FIELDS, "") | {"namespace": "org", "branches": "main", "per_day": "10"}
    return WatchForm(values=values, recipes=(DEFAULT_RECIPE,))


def typed_form(data: FormData, stored: Sequence[Recipe] = ()) -> WatchForm:
    """Return what was typed, for looking at it and for showing it again."""
    values = {name: str(data.get(name, "")).strip() for name in TEXT_FIELDS}
    values["enabled"] = "on" if data.get("enabled", "on") == "on" else ""
    return WatchForm(values=values, recipes=[str(name) for name in data.getlist("recipes")], stored=stored)


def form_of(watch: Watch) -> WatchForm:
    """Return the form that would make a watch what it is."""
    size = "" if watch.max_weight_bytes is None else f"{watch.max_weight_bytes / _GIBIBYTE:.6g}"
    values = dict.fromkeys(TEXT_FIELDS, "") | {
        "name": watch.name,
        "pattern": watch.pattern,
        "namespace": watch.namespace,
        "branches": ", ".join(watch.branches),
        "tags": ", ".join(watch.tags),
        "destination": watch.destination,
        "visibility": _VISIBILITY_WORDS[watch.private],
        "max_gibibytes": size,
        "per_day": str(watch.per_day),
        "enabled": "on" if watch.enabled else "",
    }
    chosen = [
        recipe.name if PRESETS.get(recipe.name) == recipe else f"{_STORED}{number}"
        for number, recipe in enumerate(watch.recipes)
    ]
    return WatchForm(values=values, recipes=chosen, stored=watch.recipes)


def rules(form: WatchForm) -> WatchRules:
    """Return the rules a form asks for.

    Raises:
        FormError: at least one field is wrong; under "" is what concerns several.
    """
    values = form.values
    try:
        body = WatchBody.model_validate(
            {
                "name": values["name"],
                "pattern": values["pattern"],
                "namespace": values["namespace"] or "org",
                "branches": _patterns(values["branches"]),
                "tags": _patterns(values["tags"]),
                "recipes": [_recipe(choice, form) for choice in form.recipes],
                "destination": values["destination"],
                "private": VISIBILITY.get(values["visibility"]),
                "max_weight_bytes": _bytes(values["max_gibibytes"]),
                "per_day": values["per_day"] or 10,
                "enabled": form.is_enabled,
            }
        )
        made = rules_of(body)
        check_rules(made)
    except ValidationError as error:
        found = complaints(error, (*TEXT_FIELDS, "recipes", "max_weight_bytes"), _OWN)
        if "max_weight_bytes" in found:
            found["max_gibibytes"] = found.pop("max_weight_bytes")
        raise FormError(found) from error
    except (RecipeError, InvalidWatchError) as error:
        raise FormError({"": sentence(str(error))}) from error
    return made


def _patterns(typed: str) -> list[str]:
    return typed.replace(",", " ").split()


def _recipe(choice: str, form: WatchForm) -> str | dict[str, Any]:
    """Return a recipe as a body has it: one that is kept, or a preset with the target that was typed for all."""
    number = choice.removeprefix(_STORED)
    if choice.startswith(_STORED) and number.isdecimal() and int(number) < len(form.stored):
        return form.stored[int(number)].model_dump(mode="json")
    if choice not in PRESETS:
        return choice
    preset = PRESETS[choice]
    aimed = with_target_of_size(preset, form.values)
    return choice if aimed == preset else aimed.model_dump(mode="json")


def _bytes(typed: str) -> int | None:
    if not typed:
        return None
    try:
        return round(float(typed) * _GIBIBYTE)
    except (ValueError, OverflowError) as error:
        raise FormError({"max_gibibytes": f"“{typed}” is not a number of GiB."}) from error
