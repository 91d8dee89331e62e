"""An earlier job as the form that would submit it again."""

from service.jobs.schema import Job
from service.jobs.work import CompressWork
from service.web import choices
from service.web.forms import TEXT_FIELDS, VISIBILITY, WINDOW_FIELDS, FormError, chosen_recipe
from srr_core.recipe import PRESETS, Recipe

_VISIBILITY_WORDS = {value: word for word, value in VISIBILITY.items()}


def values_of(job: Job, work: CompressWork) -> dict[str, str]:
    """Return the fields that would submit a job again; only what differs from its recipe is filled in."""
    recipe, preset = work.recipe, PRESETS.get(work.recipe.name)
    windows = work.calibration or work.evaluation
    values = dict.fromkeys(TEXT_FIELDS, "") | {
        "model_id": work.source.model_id,
        "revision": work.source.revision,
        "repo_id": work.destination.repo_id,
        "visibility": _VISIBILITY_WORDS[work.destination.private],
        "recipe": recipe.name,
        "tags": ", ".join(job.tags),
    }
    values |= {name: str(getattr(windows, name, None) or "") for name in WINDOW_FIELDS}
    if preset is not None:
        options, usual = _options(recipe), _options(preset)
        values |= {name: text for name, text in options.items() if text != usual[name]}
    return values


def can_say(recipe: Recipe) -> bool:
    """Whether the form has fields for everything a recipe says."""
    if recipe.name not in PRESETS:
        return False
    usual = _options(PRESETS[recipe.name])
    values = {name: text if text != usual[name] else "" for name, text in _options(recipe).items()}
    try:
        said = chosen_recipe({"recipe": recipe.name, **values})
        return (said.digest(), said.baselines) == (recipe.digest(), recipe.baselines)
    except FormError:
        return False


def _options(recipe: Recipe) -> dict[str, str]:
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


def _text(value: object) -> str:
    return "" if value is None else str(value)
