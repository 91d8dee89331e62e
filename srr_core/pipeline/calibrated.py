"""One block run over the calibration windows: what each group of its layers sees."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from srr_core.calibration.experts import ExpertCollector, passes
from srr_core.calibration.statistics import InputCollector
from srr_core.errors import NonFiniteWeightError, NumericalError
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import Block, Layer
from srr_core.models.stream import Stream
from srr_core.pipeline.plan import RunPlan
from srr_core.rank_selectors import RANK_SELECTORS
from srr_core.recipe import AutocorrelationSpec, Recipe
from srr_core.scalings import SCALINGS, AutocorrelationScaling, ScalingFactor
from srr_core.srr import Method, WhiteNoiseProbe, decompose
from srr_core.types import Decomposition, QuantizedTensor, Statistics

Group = tuple[tuple[Layer, ...], Statistics, tuple[str, ...]]
"""Layers that share an input, what is known of it, and notes about it."""


def calibrated_groups(
    model: BlockwiseModel,
    root: nn.Module,
    stream: Stream,
    module: nn.Module,
    block: Block,
    layers: Sequence[Layer],
    *,
    advance: bool,
    check: Callable[[], None],
    after_passes: Callable[[], None],
) -> Iterator[Group]:
    """Run a loaded block over a stream and yield the groups of its layers, each freed before the next.

    Layers that were never called are in no group.

    Args:
        root: The model the block belongs to.
        layers: Of the block, that are asked for.
        advance: Whether the stream goes on to the next block.
        check: Called after every batch; may raise to stop.
        after_passes: Called once the last pass is done, before the groups of it.
    """
    by_name = {layer.name: layer for layer in layers}
    experts = {name: (layer.expert, layer.shape[1]) for name, layer in by_name.items() if layer.expert}
    linears = [layer for layer in layers if layer.expert is None]
    rounds = passes(experts)
    for number, chosen in enumerate(rounds, start=1):
        is_final = number == len(rounds)
        inputs = InputCollector(_modules(module, block, linears if number == 1 else []))
        routed = ExpertCollector(root, chosen)
        with inputs.watching(), routed:
            model.run_block(stream, module, after_batch=_after_batch(inputs, check), advance=is_final and advance)
        if is_final:
            after_passes()
        for members, statistics in inputs.groups():
            yield tuple(by_name[name] for name in members), statistics, ()
        for members, statistics, notes in routed.groups():
            yield tuple(by_name[name] for name in members), statistics, notes


class GroupMethods:
    """The methods of the layers of one group: what depends on their inputs alone is computed once."""

    def __init__(
        self, plan: RunPlan, first: Layer, statistics: Statistics, *, exact: ScalingFactor | None = None
    ) -> None:
        """Build the parts.

        Args:
            exact: The exact factor of these statistics, where it is there already.
        """
        recipe = plan.recipe
        self.exact = exact or AutocorrelationScaling(AutocorrelationSpec()).factor(statistics)
        is_exact = isinstance(recipe.scaling, AutocorrelationSpec)
        self._scaling = self.exact if is_exact else SCALINGS.build(recipe.scaling).factor(statistics)
        self._selector = RANK_SELECTORS.build(recipe.rank_selector)
        seed = layer_seed(plan, first.name)
        self._probe = WhiteNoiseProbe(self._scaling, first.shape[1], recipe, seed=seed, device=plan.device)

    def of(self, recipe: Recipe, output_length: float | None = None) -> Method:
        """Return the parts of a recipe that differs from the run's in quantizer, rank and rounds at most.

        Args:
            output_length: ‖xW‖ of the layer at hand, where it is known.
        """
        return Method(recipe, self._scaling, self.exact, self._selector, self._probe, output_length=output_length)


def layer_seed(plan: RunPlan, name: str) -> int:
    """Return a seed from names alone, so that neither the order of layers nor the number of workers matters."""
    text = f"{plan.model_id}\0{name}\0{plan.recipe.seed}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def require_finite(module: nn.Module, block: Block) -> None:
    """Raise NonFiniteWeightError for a loaded block with a weight that is NaN or infinite."""
    for name, parameter in module.named_parameters():
        if not bool(parameter.isfinite().all()):
            bad = int((~parameter.isfinite()).sum())
            raise NonFiniteWeightError(
                f"{block.path}.{name} holds {bad} values that are NaN or infinite; repair the source checkpoint"
            )


def _after_batch(collector: InputCollector, check: Callable[[], None]) -> Callable[[], None]:
    def ended() -> None:
        collector.end_batch()
        check()

    return ended


def _modules(module: nn.Module, block: Block, layers: Sequence[Layer]) -> dict[str, nn.Module]:
    return {layer.name: module.get_submodule(layer.module.removeprefix(f"{block.path}.")) for layer in layers}


def decomposed(
    plan: RunPlan,
    layer: Layer,
    method: Method,
    quantize: Callable[[Tensor], QuantizedTensor],
    weight: Tensor | None = None,
) -> tuple[Tensor, Decomposition]:
    """Return the source weight of a layer in float32, and its decomposition.

    Args:
        weight: Where it has been read already.
    Raises:
        NonFiniteWeightError, NumericalError: the message names the layer.
    """
    weight = source_weight(plan, layer) if weight is None else weight
    try:
        return weight, decompose(weight, method, quantize, seed=layer_seed(plan, layer.name))
    except (NonFiniteWeightError, NumericalError) as error:
        raise type(error)(f"layer {layer.name}: {error}") from error
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # public, but not declared so
        raise NumericalError(
            f"layer {layer.name}: a factorization failed, as values near the end of float32 do"
        ) from error


def source_weight(plan: RunPlan, layer: Layer) -> Tensor:
    """Return the source weight of a layer, [out, in] in float32, on the device of the run."""
    part = layer.expert if layer.is_stacked else None
    stored = plan.weights[layer.tensor] if part is None else plan.weights.part(layer.tensor, part.index)
    weight = stored.to(plan.device, torch.float32)
    return weight.mT.contiguous() if layer.is_transposed else weight
