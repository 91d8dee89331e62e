"""Simple methods at the same bits, from the statistics and the reading of one run; nothing of them is published.

They are quantized while each block is calibrated, group by group after the recipe's own layers, and wait as codes in
the work folder, so a run that was killed keeps them, too. In the evaluation each runs beside the source: a block is
read once, and computes with the weights of the source and then with those of every baseline.
"""

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from srr_core.errors import StorageError, UnsupportedModelError
from srr_core.formats.adapter import AdapterTargets
from srr_core.models.layers import Block, Layer
from srr_core.models.weights import BlockWeights
from srr_core.pipeline.calibrated import GroupMethods, decomposed, layer_seed, source_weight
from srr_core.pipeline.finishing import DecomposedLayer, write_layer
from srr_core.pipeline.layer_folder import FinishedLayer, LayerFolder
from srr_core.pipeline.plan import RunPlan, choose_layout
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.pipeline.streams import stored_weight
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import DivergenceSpec, Recipe
from srr_core.recipe.baselines import baseline_recipes
from srr_core.recipe.stages import Stage
from srr_core.scalings import ScalingFactor
from srr_core.types import Statistics

FOLDER = "baselines"


@dataclass(frozen=True)
class Baseline:
    """One of them: the plan a run of it would have, and the layers that are finished."""

    plan: RunPlan
    folder: LayerFolder

    @property
    def recipe(self) -> Recipe:
        """What it does."""
        return self.plan.recipe

    def layers(self) -> list[FinishedLayer]:
        """Return what is finished, in the order of the plan."""
        found = (self.folder.finished(index, layer.name) for index, layer in enumerate(self.plan.layers.layers))
        return [layer for layer in found if layer is not None]

    def size_bytes(self) -> int:
        """Return the bytes of all weights that a run of it would write."""
        tensors = {layer.name: layer.tensor for layer in self.plan.layers.layers}
        finished = self.layers()
        replaced = {tensors[layer.record.name] for layer in finished}
        kept = (entry for name, entry in self.plan.weights.entries.items() if name not in replaced)
        codes = (entry for layer in finished for entry in layer.tensors.values())
        return sum(entry.num_bytes for entry in (*kept, *codes))


class Baselines:
    """The baselines of one run; none where its recipe names none, or there is no text or no
    divergence to compare them by.

    Raises:
        StorageError: their folder cannot be made.
    """

    def __init__(self, plan: RunPlan, work: WorkFolder, monitor: RunMonitor) -> None:
        self._plan = plan
        self._monitor = monitor
        self._positions = {layer.name: index for index, layer in enumerate(plan.layers.layers)}
        self.all = [_baseline(plan, recipe, work) for recipe in _recipes(plan)]
        self._quantizers = [QUANTIZERS.build(one.recipe.quantizer) for one in self.all]

    def are_settled(self, block: Block, unused: Mapping[str, str]) -> bool:
        """Whether every layer of a block is finished in all of them, those left out that were never called."""
        return all(
            baseline.folder.finished(self._positions[layer.name], layer.name) is not None
            for baseline in self.all
            for layer in block.layers
            if layer.name not in unused
        )

    def quantize(
        self,
        layers: Sequence[Layer],
        statistics: Statistics,
        exact: ScalingFactor,
        notes: tuple[str, ...],
        lengths: Mapping[str, float],
    ) -> None:
        """Finish the layers of one group in every baseline.

        Args:
            exact: The exact factor of the statistics.
            notes: About the group.
            lengths: Of the outputs, as far as the recipe's own layers have told them.
        Raises:
            NumericalError, StorageError: the message names the layer.
        """
        if not self.all:
            return
        with self._monitor.timed(Stage.BASELINES):
            methods = [GroupMethods(one.plan, layers[0], statistics, exact=exact) for one in self.all]
            for layer in layers:
                self._quantize_layer(layer, methods, statistics, notes, lengths.get(layer.name))

    def _quantize_layer(
        self,
        layer: Layer,
        methods: Sequence[GroupMethods],
        statistics: Statistics,
        notes: tuple[str, ...],
        length: float | None,
    ) -> None:
        """Finish one layer in every baseline: its weight is read once, and the length of its output found once."""
        index, weight = self._positions[layer.name], None
        for baseline, quantizer, parts in zip(self.all, self._quantizers, methods, strict=True):
            if baseline.folder.finished(index, layer.name) is not None:
                continue
            self._monitor.check()
            began = time.perf_counter()
            seed = layer_seed(baseline.plan, layer.name)
            quantize = functools.partial(quantizer.quantize, statistics=statistics, seed=seed)
            method = parts.of(baseline.recipe, length)
            weight, result = decomposed(baseline.plan, layer, method, quantize, weight)
            length = result.output_length
            seconds = time.perf_counter() - began
            item = DecomposedLayer(layer, method, result, statistics.num_tokens, notes, seconds)
            write_layer(baseline.folder, index, baseline.plan.layout, item)


class BaselineWriter:
    """Lets the loaded block of the source compute as it would in a baseline.

    Args:
        root: The model whose block is loaded.
    """

    def __init__(self, plan: RunPlan, root: nn.Module) -> None:
        self._plan = plan
        self._root = root
        self._block: int | None = None
        self._weights: BlockWeights | None = None

    def write(self, baseline: Baseline, index: int) -> None:
        """Write the finished layers of one block; the first call after a block was loaded finds its weights as read.

        Raises:
            UnsupportedModelError: the class keeps an expert where its weight is not found.
        """
        block = self._plan.layers.blocks[index]
        if self._weights is None or self._block != index:
            read = functools.partial(source_weight, self._plan)
            self._block, self._weights = index, BlockWeights(self._root, block, read)
        positions = {layer.name: place for place, layer in enumerate(self._plan.layers.layers)}
        for layer in block.layers:
            finished = baseline.folder.finished(positions[layer.name], layer.name)
            if finished is None:
                continue
            if layer.name not in self._weights:
                raise UnsupportedModelError(f"no baseline can run: {layer.name} is not found in the loaded block")
            self._weights.write(layer.name, stored_weight(layer.name, finished, baseline.plan.layout))


def planned_bits(plan: RunPlan) -> float:
    """Return the bits per compressed weight of a plan, scales and L·R counted."""
    sizes = [layer.shape[0] * layer.shape[1] for layer in plan.layers.layers]
    bits = (plan.recipe_of(layer).bits_per_weight(*layer.shape) for layer in plan.layers.layers)
    return sum(own * size for own, size in zip(bits, sizes, strict=True)) / max(sum(sizes), 1)


def _recipes(plan: RunPlan) -> tuple[Recipe, ...]:
    evaluation = plan.recipe.evaluation
    if not plan.recipe.baselines or plan.evaluation is None or evaluation is None:
        return ()
    if not any(isinstance(evaluator, DivergenceSpec) for evaluator in evaluation.evaluators):
        return ()  # nothing that they could be compared by
    return baseline_recipes(plan.recipe, planned_bits(plan))


def _baseline(plan: RunPlan, recipe: Recipe, work: WorkFolder) -> Baseline:
    # What the power takes is quantized again; a wait for the disk would be a third of their time.
    folder = LayerFolder(work.path / FOLDER / recipe.digest(), is_durable=False)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder.path} cannot be written: {error.strerror}") from error
    layout = choose_layout(plan.architecture, plan.layers, recipe)
    return Baseline(replace(plan, recipe=recipe, layout=layout, targets=AdapterTargets(), quantizers={}), folder)
