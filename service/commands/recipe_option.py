"""`--recipe NAME|FILE`, `--set path=value` and targets: a recipe from the command line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.commands.output import EXIT_BAD_INPUT, CommandError
from srr_core.recipe import PRESETS, Recipe, RepairSpec, override, parse_assignments, parse_recipe
from srr_core.recipe.budgeted import BUDGET_RECIPE, budgeted
from srr_core.recipe.byte_sizes import size_in_bytes

COMMAND_RECIPE = "srr"
"""Of commands that name none; the service proposes another, `srr_core.recipe.DEFAULT_RECIPE`."""

DEMO_RECIPE = "srr-fast"
"""The best one that takes seconds on the demo model; `srr-best` learns for minutes."""


def chosen_recipe(
    name_or_file: str | None,
    assignments: Sequence[str],
    *,
    seed: int | None = None,
    target: str | None = None,
    target_bits: float | None = None,
    target_size: str | None = None,
    target_kl: float | None = None,
) -> Recipe:
    """Return the recipe that the options describe.

    Args:
        name_or_file: None for the recipe of commands that name none.
        target_size: As it is typed, such as 4GiB.
    Raises:
        RecipeError: an unknown name or field, a value out of range, an assignment without `=`, or two targets of size.
        CommandError: a file that is not JSON.
    """
    is_budgeted = (target_bits, target_size, target_kl) != (None, None, None)
    if not is_budgeted:
        return _chosen(name_or_file or COMMAND_RECIPE, assignments, seed=seed, target=target)
    size = None if target_size is None else size_in_bytes(target_size)
    recipe = _chosen(name_or_file or BUDGET_RECIPE, assignments, seed=seed, target=target)
    return budgeted(recipe, target_bits=target_bits, target_size_bytes=size, target_kl=target_kl)


def chosen_recipes(names_or_files: Sequence[str], assignments: Sequence[str], **targets: Any) -> list[Any]:
    """Return the recipes of a watch as its body has them: names where nothing is said beside them, else objects.

    Args:
        names_or_files: None of them, and no target either: the service proposes its own.
        targets: As `chosen_recipe` takes them; of every recipe.
    Raises:
        RecipeError, CommandError: as `chosen_recipe` does.
    """
    is_plain = not assignments and all(value is None for value in targets.values())
    if is_plain and all(name in PRESETS for name in names_or_files):
        return list(names_or_files)
    found = [chosen_recipe(name, assignments, **targets) for name in names_or_files or (None,)]
    return [recipe.model_dump(mode="json") for recipe in found]


def repair_spec(assignments: Sequence[str]) -> RepairSpec:
    """Return the repair that options describe. Raises RecipeError as `chosen_recipe` does."""
    changes = {f"repair.{path}": value for path, value in parse_assignments(assignments).items()}
    repair = override(Recipe(repair=RepairSpec()), changes).repair
    return repair or RepairSpec()


def _chosen(name_or_file: str, assignments: Sequence[str], *, seed: int | None, target: str | None) -> Recipe:
    source = _source(name_or_file)
    changes = parse_assignments(assignments)
    if target is not None:
        # With what is set in one go, so that the target chooses only what neither the file nor the options say.
        stated = {"name": source} if isinstance(source, str) else source
        return override(parse_recipe(stated), changes | ({} if seed is None else {"seed": seed}) | {"target": target})
    recipe = parse_recipe(source)
    if seed is not None:
        changes["seed"] = seed
    return override(recipe, changes) if changes else recipe


def _source(name_or_file: str) -> str | dict[str, Any]:
    path = Path(name_or_file)
    if name_or_file in PRESETS or not (path.suffix or path.is_file()):
        return name_or_file
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"recipe file {path}: {error.strerror}", exit_code=EXIT_BAD_INPUT) from error
    except ValueError as error:
        raise CommandError(f"recipe file {path} is not JSON: {error}", exit_code=EXIT_BAD_INPUT) from error
    if not isinstance(data, dict):
        raise CommandError(f"recipe file {path} must hold a JSON object", exit_code=EXIT_BAD_INPUT)
    return data
