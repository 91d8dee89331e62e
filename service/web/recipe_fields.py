"""What a recipe says in the fields of the form, and in the words that stand in them while they are empty."""

from collections.abc import Mapping

from service.web import choices
from srr_core.recipe import Recipe


def recipe_fields(recipe: Recipe) -> dict[str, str]:
    """Return the advanced fields as this recipe would fill them in; empty where it says nothing."""
    budget = recipe.budget
    return {
        "num_bits": str(recipe.quantization_bits),
        "rank": str(recipe.rank),
        "iterations": str(recipe.iterations),
        "group_size": str(choices.group_size(recipe) or ""),
        "seed": str(recipe.seed),
        "scaling": choices.row_of(choices.SCALINGS, recipe.scaling.model_dump()) or "",
        "rank_selector": choices.row_of(choices.RANK_SELECTORS, recipe.rank_selector.model_dump()) or "",
        "target": "" if recipe.target == "any" else recipe.target,
        "target_bits": "" if budget is None else _text(budget.target_bits),
        "target_size": "" if budget is None else _text(budget.target_size_bytes),
        "target_kl": "" if budget is None else _text(budget.target_kl),
        "evaluation": "on" if recipe.evaluation else "off",
    }


def own_words(recipe: Recipe) -> dict[str, str]:
    """Return what an empty field stands for with this recipe, in words."""
    fields, calibration = recipe_fields(recipe), recipe.calibration
    rows = (("scaling", choices.SCALINGS), ("rank_selector", choices.RANK_SELECTORS))
    titles: Mapping[str, str] = {
        name: table[fields[name]].title if fields[name] else getattr(recipe, name).kind for name, table in rows
    }
    return {
        **fields,
        **titles,
        "group_size": fields["group_size"] or "codes without groups",
        "target": choices.TARGETS[recipe.target] if recipe.target != "any" else "nothing in particular",
        "target_bits": fields["target_bits"] or "none",
        "target_size": fields["target_size"] or "none",
        "target_kl": fields["target_kl"] or "none",
        "evaluation": choices.EVALUATIONS[fields["evaluation"]],
        "num_sequences": str(calibration.num_sequences),
        "sequence_length": str(calibration.sequence_length),
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)
