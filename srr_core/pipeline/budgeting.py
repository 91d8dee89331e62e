"""A budget spent before a run: every setting of every layer scored once, the best choice taken, and the plan changed.

The scores are made from two walks over the blocks. The first goes forth and back and tells how much the prediction
depends on every output; the second compresses every layer by every setting and weighs the error it makes. Learned
rounding is scored by error feedback, which orders settings the same and takes a hundredth of the time.
"""

import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from srr_core.budget.sensitivity import Sensitivities, output_sensitivities
from srr_core.budget.table import LayerScores, Plan, Probe, Score, ScoreTable, solve, solve_divergence
from srr_core.checkpoint.writer import write_json
from srr_core.errors import RecipeError, StorageError
from srr_core.linalg.precision import exact_matmul
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import Layer
from srr_core.pipeline.calibrated import (
    GroupMethods,
    calibrated_groups,
    decomposed,
    layer_seed,
    require_finite,
    source_weight,
)
from srr_core.pipeline.plan import RunPlan, choose_layout, choose_targets
from srr_core.pipeline.probing import measured_divergence
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import BudgetSpec, GPTQSpec, LearnedSpec, QuantizerSpec, Recipe, Setting
from srr_core.recipe.budgeted import candidates
from srr_core.recipe.stages import Stage
from srr_core.report import BudgetReport, SettingCount
from srr_core.srr import Method
from srr_core.types import Decomposition, QuantizedTensor, Statistics

TABLE_FILE = "budget.json"
"""The score table, in the work folder and in the artifact."""
PROBES = 5
"""Choices that are compressed and measured for a target of divergence, at most. On the demo model the second one lies
within 2 % of the target."""
CLOSE, MARGIN = 1.05, 1.02
"""A probe that misses its target by less than the first is followed by one that aims the second below it."""
_SHAPE_BYTES = 16
"""Of `weight_shape`, which every layer has."""
_FACTOR_BYTES = 2


def spend_budget(plan: RunPlan, monitor: RunMonitor, *, kept_table: Path) -> tuple[RunPlan, BudgetReport | None]:
    """Return a plan whose layers have settings of their own, where its recipe has a budget, and what was bought.

    Args:
        kept_table: Where the score table is kept; one that is there already and was made from the same is used again.
    Raises:
        RecipeError: the budget cannot be met; the message has the range.
        StopRequested: the caller asked to stop.
    """
    spec = plan.recipe.budget
    if spec is None:
        return plan, None
    began = time.perf_counter()
    made_from = _made_from(plan, spec)
    table = read_table(kept_table, made_from)
    if table is None:
        table = _Scorer(plan, spec, monitor, made_from).table()
        write_json(kept_table, table.model_dump(mode="json"))
    if spec.target_kl is None:
        bought, probe = solve(table, spec), None
    else:
        bought, probe = _within(plan, table, spec, monitor, kept_table)
    return spent(plan, bought), _report(table, bought, probe, time.perf_counter() - began)


def _within(
    plan: RunPlan, table: ScoreTable, spec: BudgetSpec, monitor: RunMonitor, kept_table: Path
) -> tuple[Plan, Probe]:
    """Return the smallest settings found whose divergence, as it was measured, is within the target.

    Estimates order settings well and are off by a factor; the factor of the nearest probe corrects them.

    Raises:
        RecipeError: no settings are within the target.
    """
    assert spec.target_kl is not None  # noqa: S101  # the caller looked
    tried: dict[int, tuple[Plan, Probe]] = {}
    for _ in range(PROBES):
        bought = solve_divergence(table, spec, ratio=_ratio(table.probes, spec.target_kl))
        if bought.used_bytes in tried:
            break
        probe = next(
            (one for one in table.probes if (one.cost, one.used_bytes) == (bought.cost, bought.used_bytes)), None
        )
        if probe is None:
            divergence = measured_divergence(spent(_scored(plan), bought), monitor)
            probe = Probe(cost=bought.cost, used_bytes=bought.used_bytes, divergence=divergence)
            table = table.model_copy(update={"probes": (*table.probes, probe)})
            write_json(kept_table, table.model_dump(mode="json"))
        tried[bought.used_bytes] = bought, probe
    within = [size for size, (_, probe) in tried.items() if probe.divergence <= spec.target_kl]
    if within:
        return tried[min(within)]
    best = min(probe.divergence for _, probe in tried.values())
    raise RecipeError(
        f"{len(tried)} choices of settings were tried for a divergence of {spec.target_kl:g} nats; the best has "
        f"{best:.3g}. Allow more, or give num_bits more bits"
    )


def _ratio(probes: tuple[Probe, ...], target: float) -> float:
    """Return divergence per estimated nat near a target, a little more where the nearest probe missed it narrowly."""
    if not probes:
        return 1.0
    nearest = min(probes, key=lambda probe: abs(math.log(probe.divergence / target)))
    missed = target < nearest.divergence < target * CLOSE
    return nearest.divergence / nearest.cost * (MARGIN if missed else 1.0)


def _scored(plan: RunPlan) -> RunPlan:
    """Return the plan with the quantizer that settings are scored with."""
    return replace(plan, recipe=plan.recipe.model_copy(update={"quantizer": _scored_by(plan.recipe.quantizer)}))


def carry(source: Path, destination: Path) -> None:
    """Copy a score table. Raises StorageError."""
    try:
        shutil.copyfile(source, destination)
    except OSError as error:
        raise StorageError(f"the score table {source} could not be copied: {error.strerror}") from error


def read_table(file: Path, made_from: Mapping[str, str]) -> ScoreTable | None:
    """Return a score table that was made from the same, or None."""
    with suppress(OSError, ValueError, ValidationError):
        table = ScoreTable.model_validate(json.loads(file.read_text(encoding="utf-8")))
        if table.made_from == dict(made_from):
            return table
    return None


def spent(plan: RunPlan, bought: Plan) -> RunPlan:
    """Return the plan with the settings that were bought; the most common one becomes the recipe's own."""
    recipe = plan.recipe
    (usual, _), *_ = Counter(sorted(bought.settings.values())).most_common()
    quantizers = {name: recipe.quantizer_of(setting) for name, setting in bought.settings.items() if setting != usual}
    settled = recipe.model_copy(update={"quantizer": recipe.quantizer_of(usual), "rank": bought.rank})
    layout = choose_layout(plan.architecture, plan.layers, settled, quantizers)
    targets = choose_targets(plan.architecture, plan.layers, settled)
    return replace(plan, recipe=settled, layout=layout, targets=targets, quantizers=quantizers)


def sensitivities(plan: RunPlan, spec: BudgetSpec, *, after_block: Callable[[], None]) -> Sensitivities:
    """Return how much the prediction depends on every output of every layer of a plan.

    Args:
        after_block: Called after every block, twice each; may raise to stop.
    Raises:
        UnsupportedModelError: the model works on the hidden states between its blocks.
    """
    length = min(spec.sequence_length, plan.calibration.ids.shape[1])
    ids = plan.calibration.ids[:, : plan.calibration.ids.shape[1] // length * length].reshape(-1, length)
    return output_sensitivities(
        BlockwiseModel(plan.architecture, plan.weights, plan.layers, plan.device),
        plan.architecture.model,
        plan.layers.blocks,
        list(torch.split(_spread(ids, spec.num_sequences), plan.recipe.calibration.batch_size)),
        source=lambda layer: source_weight(plan, layer),
        has_head=plan.architecture.predicts_tokens,
        seed=layer_seed(plan, "budget"),
        after_block=after_block,
    )


class _Scorer:
    def __init__(self, plan: RunPlan, spec: BudgetSpec, monitor: RunMonitor, made_from: Mapping[str, str]) -> None:
        self._plan = plan
        self._spec = spec
        self._monitor = monitor
        self._made_from = made_from
        self._recipes = [
            (setting, recipe.model_copy(update={"quantizer": _scored_by(recipe.quantizer)}))
            for setting, recipe in candidates(plan.recipe)
        ]
        self._quantizers = {recipe.quantizer: QUANTIZERS.build(recipe.quantizer) for _, recipe in self._recipes}
        highest = plan.recipe.model_copy(update={"rank": max(spec.ranks)})
        self._bare = choose_targets(plan.architecture, plan.layers, highest).bare
        self._scores: dict[str, list[Score]] = {}

    def table(self) -> ScoreTable:
        plan = self._plan
        layers = plan.layers.layers
        with self._monitor.stage(Stage.SEARCH, 3 * len(plan.layers.blocks)):
            self._score_all(sensitivities(plan, self._spec, after_block=self._ended))
        entries = plan.weights.entries
        source_bytes = plan.layers.compressed_bytes(entries)
        return ScoreTable(
            weighting="fisher" if plan.architecture.predicts_tokens else "hidden",
            kept_bytes=sum(entry.num_bytes for entry in entries.values()) - source_bytes,
            source_bytes=source_bytes,
            made_from=dict(self._made_from),
            layers=tuple(
                LayerScores(name=layer.name, num_weights=math.prod(layer.shape), scores=tuple(self._scores[layer.name]))
                for layer in layers
                if layer.name in self._scores
            ),
        )

    def _ended(self) -> None:
        self._monitor.advance(Stage.SEARCH)
        self._monitor.check()

    def _score_all(self, found: Sensitivities) -> None:
        plan = self._plan
        model = BlockwiseModel(plan.architecture, plan.weights, plan.layers, plan.device)
        stream = model.start(list(plan.calibration.batches(plan.recipe.calibration.batch_size)))
        for block in plan.layers.blocks:
            with model.loaded_block(block.index, stream) as module:
                require_finite(module, block)
                groups = calibrated_groups(
                    model,
                    plan.architecture.model,
                    stream,
                    module,
                    block,
                    block.layers,
                    advance=True,
                    check=self._monitor.check,
                    after_passes=lambda: None,
                )
                for members, statistics, _ in groups:
                    methods = GroupMethods(plan, members[0], statistics)
                    for layer in members:
                        scores = self._layer_scores(layer, methods, statistics, found[layer.name])
                        self._scores[layer.name] = list(scores)
            self._ended()

    def _layer_scores(
        self, layer: Layer, methods: GroupMethods, statistics: Statistics, sensitivity: Tensor
    ) -> Iterator[Score]:
        for setting, candidate in self._usable(layer):
            self._monitor.check()
            recipe = candidate.model_copy(update={"rank": 0}) if layer.name in self._bare else candidate
            method = methods.of(recipe)
            weight, result = decomposed(self._plan, layer, method, self._quantize(layer, recipe, statistics))
            yield Score(
                num_bits=setting.num_bits,
                group_size=setting.group_size,
                rank=candidate.rank,
                cost=_cost(weight, result, method, sensitivity),
                num_bytes=self._num_bytes(layer, recipe),
            )

    def _usable(self, layer: Layer) -> list[tuple[Setting, Recipe]]:
        """Return the settings whose groups divide the inputs; all of them, in our own layout, where none does."""
        dividing = [one for one in self._recipes if layer.shape[1] % one[0].group_size == 0]
        return dividing or self._recipes

    def _quantize(self, layer: Layer, recipe: Recipe, statistics: Statistics) -> Callable[[Tensor], QuantizedTensor]:
        quantizer, seed = self._quantizers[recipe.quantizer], layer_seed(self._plan, layer.name)
        return lambda target: quantizer.quantize(target, statistics, seed=seed)

    def _num_bytes(self, layer: Layer, recipe: Recipe) -> int:
        layout = choose_layout(self._plan.architecture, self._plan.layers, recipe)
        declared = layout.codec.declared(layer.shape).values()
        codes = sum(one.dtype.itemsize * math.prod(one.shape) for one in declared)
        return codes + _SHAPE_BYTES + _FACTOR_BYTES * recipe.rank * sum(layer.shape)


def _scored_by(quantizer: QuantizerSpec) -> QuantizerSpec:
    return GPTQSpec(grid=quantizer.grid) if isinstance(quantizer, LearnedSpec) else quantizer


@exact_matmul()
def _cost(weight: Tensor, result: Decomposition, method: Method, sensitivity: Tensor) -> float:
    """Return half the error of every output times how much it counts, summed."""
    error = weight - result.quantized.dequantize().to(weight)
    if result.left is not None and result.right is not None:
        error = error - result.left.to(weight) @ result.right.to(weight)
    by_output = method.exact.times(error).square().sum(1, dtype=torch.float64).cpu()
    return float(by_output @ sensitivity) / 2


def _spread(ids: Tensor, count: int) -> Tensor:
    """Return so many windows, evenly spread over all there are."""
    chosen = torch.linspace(0, len(ids) - 1, min(count, len(ids))).round().to(torch.int64)
    return ids[chosen]


def _made_from(plan: RunPlan, spec: BudgetSpec) -> dict[str, str]:
    """Return what the scores depend on: everything a resume compares, without the target and what learning does."""
    neutral = spec.model_copy(
        update={"target_bits": 1.0, "target_size_bytes": None, "target_kl": None, "share": "fused"}
    )
    quantizer = plan.recipe.quantizer_of(spec.settings[0])
    scored = plan.recipe.model_copy(
        update={
            "budget": neutral,
            "quantizer": _scored_by(quantizer),
            "rank": 0,
            "iterations": 1,
            "repair": None,
            "evaluation": None,
        }
    )
    return {**plan.fingerprint(), "recipe": scored.digest()}


def _report(table: ScoreTable, bought: Plan, probe: Probe | None, seconds: float) -> BudgetReport:
    counts = Counter(bought.settings.values())
    return BudgetReport(
        weighting=table.weighting,
        budget_bytes=bought.budget_bytes,
        used_bytes=bought.used_bytes,
        estimated_cost=bought.cost,
        probed_divergence=None if probe is None else probe.divergence,
        rank=bought.rank,
        settings=tuple(
            SettingCount(num_bits=setting.num_bits, group_size=setting.group_size, layers=count)
            for setting, count in sorted(counts.items())
        ),
        seconds=round(seconds, 3),
    )
