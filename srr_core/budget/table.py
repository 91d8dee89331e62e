"""The score table of a search: what every setting of every layer costs and takes, kept so that it is made only once."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from srr_core.budget.allocation import Choice, allocate
from srr_core.errors import RecipeError
from srr_core.recipe.budget import BudgetSpec, Setting
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.fused import fused_groups


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Frozen):
    """One layer under one setting."""

    num_bits: int
    group_size: int
    rank: int
    cost: float
    """Estimated nats per token: half the squared error of the outputs, weighted with the Fisher information."""
    num_bytes: int
    """In the written files, L·R included."""

    @property
    def setting(self) -> Setting:
        """What the layer is written as, the rank left out."""
        return Setting(self.num_bits, self.group_size)


class LayerScores(_Frozen):
    """One layer under every setting."""

    name: str
    num_weights: int
    scores: tuple[Score, ...]


class Probe(_Frozen):
    """A choice of settings that was tried: what it was estimated to cost, and what it did."""

    cost: float
    used_bytes: int
    divergence: float
    """From the source, in nats per token, over the calibration windows."""


class ScoreTable(_Frozen):
    """Every layer under every setting; `budget.json` of an artifact is this document with the choice beside it."""

    schema_version: Literal[1] = 1
    weighting: Literal["fisher", "hidden"]
    """fisher: by the model's prediction; hidden: by its last hidden states, where the model predicts nothing."""
    kept_bytes: int
    """Of the tensors that are not compressed, which a target size has to pay too."""
    source_bytes: int
    """Of the weights that are compressed, in the source."""
    made_from: Mapping[str, str]
    """Everything the scores depend on: source, text, recipe without its target, versions."""
    layers: tuple[LayerScores, ...]
    probes: tuple[Probe, ...] = ()
    """Made for targets of divergence, in order."""


class Plan(_Frozen):
    """What a budget buys."""

    rank: int
    settings: Mapping[str, Setting]
    """By layer."""
    cost: float
    """Estimated nats per token of the whole."""
    budget_bytes: int
    used_bytes: int
    """Of the compressed weights, L·R included."""
    bits_per_weight: float


def solve_divergence(table: ScoreTable, spec: BudgetSpec, *, ratio: float) -> Plan:
    """Return the smallest settings whose estimated divergence is within the target.

    Args:
        spec: With `target_kl`.
        ratio: Divergence per estimated nat, as a probe tells it.
    Raises:
        RecipeError: the target is below the estimate of the largest settings, or the table lacks its settings.
    """
    assert spec.target_kl is not None  # noqa: S101  # the caller looked
    largest = sum(max(score.num_bytes for score in layer.scores) for layer in table.layers)
    low, high = 0, min(largest, table.source_bytes - 1)
    best = solve(table, _of_bytes(table, spec, high))
    if best.cost * ratio > spec.target_kl:
        raise RecipeError(
            f"the target divergence of {spec.target_kl:g} nats is below the {best.cost * ratio:.3g} estimated for the "
            "largest settings there are to choose from; allow more, or give num_bits more bits"
        )
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan = solve(table, _of_bytes(table, spec, middle))
        except RecipeError:  # below the smallest settings
            low = middle
            continue
        if plan.cost * ratio > spec.target_kl:
            low = middle
        else:
            best, high = plan, min(middle, plan.used_bytes)
    return best


def _of_bytes(table: ScoreTable, spec: BudgetSpec, num_bytes: int) -> BudgetSpec:
    return spec.model_copy(update={"target_kl": None, "target_size_bytes": num_bytes + table.kept_bytes})


def solve(table: ScoreTable, spec: BudgetSpec) -> Plan:
    """Return the settings of least estimated cost within a budget. Reads nothing but the table; takes milliseconds.

    Args:
        spec: With a target of bits or bytes.
    Raises:
        RecipeError: the budget is below the smallest settings or no smaller than the source, or the table lacks its
            settings.
    """
    budget = budget_bytes(table, spec)
    if budget >= table.source_bytes:
        raise RecipeError(
            f"the budget of {budget} bytes for the compressed weights is not below the {table.source_bytes} bytes they "
            f"have in the source; there is nothing to save. {_range(table)}"
        )
    plans: list[Plan] = []
    refusal: RecipeError | None = None
    for rank in spec.ranks:
        try:
            plans.append(_solve_rank(table, spec, rank, budget))
        except RecipeError as error:
            refusal = refusal or error
    if not plans:
        raise RecipeError(f"{refusal}. {_range(table)}") from refusal
    return min(plans, key=lambda plan: (plan.cost, plan.used_bytes))


def _range(table: ScoreTable) -> str:
    """Return what can be reached, in the words of every target."""
    weights = sum(layer.num_weights for layer in table.layers)
    ends = [sum(pick(score.num_bytes for score in layer.scores) for layer in table.layers) for pick in (min, max)]
    bits = " to ".join(f"{8 * end / weights:.2f}" for end in ends)
    sizes = " to ".join(str(end + table.kept_bytes) for end in ends)
    return f"These choices reach {bits} bits per weight, {sizes} bytes of weight files in all"


def budget_bytes(table: ScoreTable, spec: BudgetSpec) -> int:
    """Return what the compressed weights may take.

    Raises:
        RecipeError: a target size that the tensors which are not compressed fill alone.
    """
    bits = spec.bits(weights=sum(layer.num_weights for layer in table.layers), kept_bytes=table.kept_bytes)
    assert bits is not None  # noqa: S101  # whoever aims at a divergence asks for bytes, one try after the other
    if not bits:
        raise RecipeError(
            f"the target of {spec.words} is used up by the {size_words(table.kept_bytes)} of tensors that are not "
            "compressed, such as embeddings; give more"
        )
    return int(bits / 8)


def _solve_rank(table: ScoreTable, spec: BudgetSpec, rank: int, budget: int) -> Plan:
    by_name = {layer.name: layer for layer in table.layers}
    names = fused_groups(by_name) if spec.share == "fused" else [(name,) for name in by_name]
    wanted = set(spec.settings)
    settings = sorted(
        {score.setting for layer in table.layers for score in layer.scores if score.rank == rank} & wanted
    )
    if not settings:
        raise RecipeError(f"the score table holds no setting of the budget at rank {rank}; search again")
    scores = {
        (layer.name, score.setting): score for layer in table.layers for score in layer.scores if score.rank == rank
    }
    usable = [[one for one in settings if all((name, one) in scores for name in group)] for group in names]
    choices = [
        [
            Choice(sum(scores[name, one].cost for name in group), sum(scores[name, one].num_bytes for name in group))
            for one in options
        ]
        for group, options in zip(names, usable, strict=True)
    ]
    empty = next((group for group, options in zip(names, usable, strict=True) if not options), None)
    if empty is not None:
        raise RecipeError(f"no setting of the budget fits {', '.join(empty)}; add a group size that divides its inputs")
    found = allocate(choices, budget)
    chosen = {
        name: options[index]
        for group, options, index in zip(names, usable, found.chosen, strict=True)
        for name in group
    }
    weights = sum(layer.num_weights for layer in table.layers)
    return Plan(
        rank=rank,
        settings=chosen,
        cost=found.cost,
        budget_bytes=budget,
        used_bytes=found.num_bytes,
        bits_per_weight=8 * found.num_bytes / weights,
    )
