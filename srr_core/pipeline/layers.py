"""One block after the other: calibrate it, decompose its layers, make each durable."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from srr_core.learning.block import Lesson, learn_block
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import Block, Layer
from srr_core.models.stream import Stream
from srr_core.models.weights import BlockWeights
from srr_core.pipeline.baselines import Baselines
from srr_core.pipeline.calibrated import (
    GroupMethods,
    calibrated_groups,
    decomposed,
    layer_seed,
    require_finite,
    source_weight,
)
from srr_core.pipeline.finishing import DecomposedLayer, write_layer
from srr_core.pipeline.layer_folder import FinishedLayer
from srr_core.pipeline.layer_record import LayerRecord
from srr_core.pipeline.plan import RunPlan
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.pipeline.streams import Streams, write_finished
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.quantizers import QUANTIZERS, Quantizer
from srr_core.quantizers.learned import LearnedQuantizer
from srr_core.recipe import LearnedSpec, QuantizerSpec
from srr_core.recipe.stages import Stage
from srr_core.report import LearningReport
from srr_core.runtime.resident import release_freed
from srr_core.scalings import SCALINGS, ScalingFactor
from srr_core.srr import Method, measured
from srr_core.types import QuantizedTensor, Statistics

UNUSED = "its module was never called on the calibration text"


class LayerCompressor:
    """Runs the blocks in order and leaves every layer finished in the work folder.

    Memory: one block in float32, the statistics of its inputs, the hidden states of the calibration windows,
    and about six times the largest layer while it is decomposed.
    """

    def __init__(self, plan: RunPlan, work: WorkFolder, monitor: RunMonitor, baselines: Baselines) -> None:
        self._plan = plan
        self._work = work
        self._baselines = baselines
        self._monitor = monitor
        self._quantizers: dict[QuantizerSpec, Quantizer[Any]] = {}
        self._scaling = SCALINGS.build(plan.recipe.scaling)
        self._positions = {layer.name: index for index, layer in enumerate(plan.layers.layers)}
        self._started: dict[str, DecomposedLayer] = {}
        self.unused: dict[str, str] = {}
        """Layers that could not be calibrated, with the reason; they stay in their source precision."""

    def run(self) -> None:
        """Finish every layer that is not finished yet.

        Raises:
            StopRequested: between two layers, or two steps of learning, when the caller asked for it.
            NonFiniteWeightError, NumericalError, StorageError: the message names the layer.
        """
        plan = self._plan
        still_open = [
            block
            for block in plan.layers.blocks
            if not (self._is_settled(block) and self._baselines.are_settled(block, self.unused))
        ]
        for block in plan.layers.blocks:
            for layer in block.layers:
                if self._is_kept(layer, block) or layer.name in self.unused:
                    self._monitor.advance(Stage.COMPRESS, layer=layer.name)
        if not still_open:
            return
        blocks = plan.layers.blocks[: still_open[-1].index + 1]
        with self._monitor.stage(Stage.CALIBRATE, len(blocks)):
            model = BlockwiseModel(plan.architecture, plan.weights, plan.layers, plan.device)
            batch_size = 1 if self._scaling.per_sequence else plan.recipe.calibration.batch_size
            streams = Streams.of(model.start(list(plan.calibration.batches(batch_size))), plan.recipe)
            for block in blocks:
                self._run_block(model, streams, block, is_last=block is blocks[-1])

    def _run_block(self, model: BlockwiseModel, streams: Streams, block: Block, *, is_last: bool) -> None:
        # Finished layers of the block are watched too: a group, and so its seed, must not depend on a resume.
        is_settled = self._is_settled(block) and self._baselines.are_settled(block, self.unused)
        waiting = {} if is_settled else {layer.name: layer for layer in block.layers}
        observed = streams.observed
        with model.loaded_block(block.index, streams.source, streams.prefix) as module:
            require_finite(module, block)
            groups = calibrated_groups(
                model,
                self._plan.architecture.model,
                observed,
                module,
                block,
                list(waiting.values()),
                advance=observed is streams.source,
                check=self._monitor.check,
                after_passes=lambda: self._monitor.advance(Stage.CALIBRATE, block=block.index),
            )
            for members, statistics, notes in groups:
                for layer in members:
                    del waiting[layer.name]
                with self._monitor.timed(Stage.COMPRESS):
                    exact, lengths = self._compress_group(members, statistics, block, notes)
                self._baselines.quantize(members, statistics, exact, notes, lengths)
            if streams.prefix is not None:
                self._follow(model, streams, streams.prefix, module, block, is_last=is_last)
        release_freed()
        for layer in waiting.values():
            if layer.name in self.unused:
                continue
            self.unused[layer.name] = UNUSED
            self._monitor.advance(Stage.COMPRESS, layer=layer.name, block=block.index)

    def _follow(
        self,
        model: BlockwiseModel,
        streams: Streams,
        prefix: Stream,
        module: nn.Module,
        block: Block,
        *,
        is_last: bool,
    ) -> None:
        """Learn what is to be learned in a block, and send the windows through it as it is compressed."""
        streams.run_source(model, module)
        weights = BlockWeights(self._plan.architecture.model, block, functools.partial(source_weight, self._plan))
        if self._started:
            with self._monitor.timed(Stage.LEARN):
                self._learn(model, weights, module, streams.source, prefix, block)
        if not is_last:
            write_finished(weights, block, self._finished_layers(block), self._plan.layout)
            model.run_block(prefix, module)

    def _learn(
        self,
        model: BlockwiseModel,
        weights: BlockWeights,
        module: nn.Module,
        source: Stream,
        prefix: Stream,
        block: Block,
    ) -> None:
        spec = self._plan.recipe.quantizer
        assert isinstance(spec, LearnedSpec)  # noqa: S101  # nothing else waits for its block
        started, self._started = self._started, {}
        lesson = Lesson(lambda batch: model.forward_block(prefix, module, batch), source.hidden, len(prefix.batches[0]))
        learned = learn_block(
            weights,
            {name: item.result for name, item in started.items()},
            lesson,
            spec,
            device=self._plan.device,
            seed=layer_seed(self._plan, block.path),
            after_step=self._monitor.check,
        )
        for name, item in started.items():
            began = time.perf_counter()
            result = measured(source_weight(self._plan, item.layer), learned.layers[name], item.method)
            seconds = item.seconds + time.perf_counter() - began
            self._finish(replace(item, result=result, seconds=seconds), block, learned.report, tuple(started))

    def _compress_group(
        self, layers: Sequence[Layer], statistics: Statistics, block: Block, notes: tuple[str, ...] = ()
    ) -> tuple[ScalingFactor, dict[str, float]]:
        """Compress those of a group that are not finished.

        Returns:
            The factor that measures the group's outputs, and the lengths of those that were compressed.
        """
        lengths: dict[str, float] = {}
        release_freed()  # before a wide statistic is factored, which is where a run is largest
        methods = GroupMethods(self._plan, layers[0], statistics)
        for layer in layers:
            if self._is_kept(layer, block):
                continue
            self._monitor.check()
            began = time.perf_counter()
            method = methods.of(self._plan.recipe_of(layer))
            _, result = decomposed(self._plan, layer, method, self._quantize(layer, method, statistics))
            if result.output_length is not None:
                lengths[layer.name] = result.output_length
            seconds = time.perf_counter() - began
            item = DecomposedLayer(layer, method, result, statistics.num_tokens, notes, seconds)
            if isinstance(method.recipe.quantizer, LearnedSpec):
                self._started[layer.name] = item
            else:
                self._finish(item, block)
        return methods.exact, lengths

    def _quantize(self, layer: Layer, method: Method, statistics: Statistics) -> Callable[[Tensor], QuantizedTensor]:
        spec, seed = method.recipe.quantizer, layer_seed(self._plan, layer.name)
        if spec not in self._quantizers:
            self._quantizers[spec] = QUANTIZERS.build(spec)
        quantizer = self._quantizers[spec]
        if isinstance(quantizer, LearnedQuantizer):
            return quantizer.learnable
        return lambda target: quantizer.quantize(target, statistics, seed=seed)

    def _finish(
        self,
        item: DecomposedLayer,
        block: Block,
        learning: LearningReport | None = None,
        together: tuple[str, ...] = (),
    ) -> None:
        position, layer = self._positions[item.layer.name], item.layer
        report = write_layer(self._work.layers, position, self._plan.layout, item, learning=learning, together=together)
        metrics = {"output_error": report.output_error, "preserved_rank": float(report.preserved_rank)}
        metrics["seconds"] = report.seconds
        self._monitor.advance(Stage.COMPRESS, layer=layer.name, block=block.index, metrics=metrics)

    def _finished_layers(self, block: Block) -> dict[str, FinishedLayer]:
        found = {layer.name: self._work.finished(self._positions[layer.name], layer.name) for layer in block.layers}
        return {name: layer for name, layer in found.items() if layer is not None}

    def _is_kept(self, layer: Layer, block: Block) -> bool:
        """Whether a layer is finished; layers that learned together are finished together, or done again."""
        finished = self._finished_layers(block)
        if layer.name not in finished:
            return False
        together = finished[layer.name].record.together
        return all(name in finished for name in together)

    def _is_settled(self, block: Block) -> bool:
        kept = [self._is_kept(layer, block) for layer in block.layers]
        if isinstance(self._plan.recipe.quantizer, LearnedSpec) and any(kept):
            # Learning a block once more for a layer that is never called would take long and change nothing.
            self.unused |= {
                layer.name: UNUSED for layer, is_kept in zip(block.layers, kept, strict=True) if not is_kept
            }
            return True
        return all(kept)


def finished_layers(plan: RunPlan, work: WorkFolder) -> Iterator[tuple[Layer, LayerRecord]]:
    """Yield every layer that is finished, with its record, in the order of the plan."""
    for index, layer in enumerate(plan.layers.layers):
        found = work.finished(index, layer.name)
        if found is not None:
            yield layer, found.record
