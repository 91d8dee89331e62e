"""How far from its source a model is that is compressed by a plan, without writing it: one walk over the blocks."""

import functools

import torch

from srr_core.evaluators.tokens import LOGIT_BYTES, divergence
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.stream import Stream
from srr_core.models.weights import BlockWeights
from srr_core.pipeline.calibrated import (
    GroupMethods,
    calibrated_groups,
    decomposed,
    layer_seed,
    require_finite,
    source_weight,
)
from srr_core.pipeline.plan import RunPlan
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.quantizers import QUANTIZERS
from srr_core.types import Decomposition

COMPARED_WINDOWS = 32
"""As an evaluation has it by default: with 2048 tokens each, a standard error of about one percent."""


def measured_divergence(plan: RunPlan, monitor: RunMonitor) -> float:
    """Return the mean KL divergence from the source over the calibration windows, in nats per token.

    The first windows stand for all in the comparison. They are calibrated on too, so on other text it is a little more.

    Memory: as compressing, and the hidden states of the windows once more.
    """
    recipe = plan.recipe.model_copy(update={"iterations": 1})
    quantizers = {spec: QUANTIZERS.build(spec) for spec in {recipe.quantizer, *plan.quantizers.values()}}
    model = BlockwiseModel(plan.architecture, plan.weights, plan.layers, plan.device)
    source = model.start(list(plan.calibration.batches(recipe.calibration.batch_size)))
    prefix = source.branch()
    for block in plan.layers.blocks:
        with model.loaded_block(block.index, source, prefix) as module:
            require_finite(module, block)
            root = plan.architecture.model
            weights = BlockWeights(root, block, functools.partial(source_weight, plan))
            results: dict[str, Decomposition] = {}
            groups = calibrated_groups(
                model,
                root,
                source,
                module,
                block,
                block.layers,
                advance=True,
                check=monitor.check,
                after_passes=lambda: None,
            )
            for members, statistics, _ in groups:
                methods = GroupMethods(plan, members[0], statistics)
                for layer in members:
                    own = plan.recipe_of(layer).model_copy(update={"iterations": 1})
                    quantizer, seed = quantizers[own.quantizer], layer_seed(plan, layer.name)
                    quantize = functools.partial(quantizer.quantize, statistics=statistics, seed=seed)
                    results[layer.name] = decomposed(plan, layer, methods.of(own), quantize)[1]
            for name, result in results.items():
                if name in weights:
                    weights.write(name, _value(result))
            model.run_block(prefix, module)
        monitor.check()
    return _mean_divergence(model, source, prefix)


def _value(result: Decomposition) -> torch.Tensor:
    value = result.quantized.dequantize()
    if result.left is None or result.right is None:
        return value
    return value.addmm_(result.left.to(value), result.right.to(value))


@torch.no_grad()
def _mean_divergence(model: BlockwiseModel, source: Stream, prefix: Stream) -> float:
    rows = max(1, LOGIT_BYTES // (4 * model.vocabulary_size))
    total, count = 0.0, 0
    with model.outer_weights():
        for stream in (source, prefix):
            model.finish(stream)
        compared = -(-COMPARED_WINDOWS // len(source.hidden[0]))
        for before, after in zip(source.hidden[:compared], prefix.hidden[:compared], strict=True):
            states = (torch.split(hidden[:, :-1].flatten(0, 1), rows) for hidden in (before, after))
            for mine, other in zip(*states, strict=True):
                total += float(divergence(model.head(mine), model.head(other)).sum(dtype=torch.float64))
                count += len(mine)
    return total / count
