"""One block after the other: calibrate it, decompose its layers, make each durable."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from srr_core.calibration.experts import ExpertCollector, passes
from srr_core.calibration.statistics import InputCollector
from srr_core.errors import NonFiniteWeightError, NumericalError
from srr_core.formats.adapter import adapter_tensors, beside_tensors
from srr_core.models.blockwise import BlockwiseModel, Stream
from srr_core.models.layers import Block, Layer
from srr_core.pipeline.layer_record import LayerRecord
from srr_core.pipeline.plan import RunPlan
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.quantizers import QUANTIZERS
from srr_core.rank_selectors import RANK_SELECTORS
from srr_core.recipe import AutocorrelationSpec
from srr_core.recipe.stages import Stage
from srr_core.report import LayerReport
from srr_core.runtime.resident import release_freed
from srr_core.scalings import SCALINGS, AutocorrelationScaling
from srr_core.srr import Method, WhiteNoiseProbe, decompose
from srr_core.types import Decomposition, Statistics
from srr_core.verification.digest import layer_digest

UNUSED = "its module was never called on the calibration text"


class LayerCompressor:
    """Runs the blocks in order and leaves every layer finished in the work folder.

    Memory: one block in float32, the statistics of its inputs, the hidden states of the calibration windows,
    and about six times the largest layer while it is decomposed.
    """

    def __init__(self, plan: RunPlan, work: WorkFolder, monitor: RunMonitor) -> None:
        self._plan = plan
        self._work = work
        self._monitor = monitor
        self._quantizer = QUANTIZERS.build(plan.recipe.quantizer)
        self._scaling = SCALINGS.build(plan.recipe.scaling)
        self._selector = RANK_SELECTORS.build(plan.recipe.rank_selector)
        self._positions = {layer.name: index for index, layer in enumerate(plan.layers.layers)}
        self.unused: dict[str, str] = {}
        """Layers that could not be calibrated, with the reason; they stay in their source precision."""

    def run(self) -> None:
        """Finish every layer that is not finished yet.

        Raises:
            StopRequested: between two layers, when the caller asked for it.
            NonFiniteWeightError, NumericalError, StorageError: the message names the layer.
        """
        done = [layer for layer in self._plan.layers.layers if self._is_finished(layer)]
        for layer in done:
            self._monitor.advance(Stage.COMPRESS, layer=layer.name)
        if len(done) == len(self._positions):
            return
        plan = self._plan
        last = max(block.index for block in plan.layers.blocks if not all(map(self._is_finished, block.layers)))
        blocks = plan.layers.blocks[: last + 1]
        with self._monitor.stage(Stage.CALIBRATE, len(blocks)):
            model = BlockwiseModel(plan.architecture, plan.weights, plan.layers, plan.device)
            batch_size = 1 if self._scaling.per_sequence else plan.recipe.calibration.batch_size
            stream = model.start(list(plan.calibration.batches(batch_size)))
            for block in blocks:
                self._run_block(model, stream, block)

    def _run_block(self, model: BlockwiseModel, stream: Stream, block: Block) -> None:
        # Finished layers of the block are watched too: a group, and so its seed, must not depend on a resume.
        open_block = not all(map(self._is_finished, block.layers))
        waiting = {layer.name: layer for layer in block.layers} if open_block else {}
        experts = {name: (layer.expert, layer.shape[1]) for name, layer in waiting.items() if layer.expert}
        linears = [layer for layer in waiting.values() if layer.expert is None]
        with model.loaded_block(block.index) as module:
            _require_finite(module, block)
            rounds = passes(experts)
            for number, chosen in enumerate(rounds, start=1):
                inputs = InputCollector(self._modules(module, block, linears if number == 1 else []))
                routed = ExpertCollector(self._plan.architecture.model, chosen)
                with inputs.watching(), routed:
                    ended = self._after_batch(inputs)
                    model.run_block(stream, module, after_batch=ended, advance=number == len(rounds))
                if number == len(rounds):
                    self._monitor.advance(Stage.CALIBRATE, block=block.index)
                for members, statistics in inputs.groups():
                    with self._monitor.timed(Stage.COMPRESS):
                        self._compress_group([waiting.pop(name) for name in members], statistics, block.index)
                for members, statistics, notes in routed.groups():
                    with self._monitor.timed(Stage.COMPRESS):
                        self._compress_group([waiting.pop(name) for name in members], statistics, block.index, notes)
        release_freed()
        for layer in waiting.values():
            self.unused[layer.name] = UNUSED
            self._monitor.advance(Stage.COMPRESS, layer=layer.name, block=block.index)

    def _after_batch(self, collector: InputCollector) -> Callable[[], None]:
        def ended() -> None:
            collector.end_batch()
            self._monitor.check()

        return ended

    def _modules(self, module: nn.Module, block: Block, layers: Sequence[Layer]) -> dict[str, nn.Module]:
        return {layer.name: module.get_submodule(layer.module.removeprefix(f"{block.path}.")) for layer in layers}

    def _compress_group(
        self, layers: Sequence[Layer], statistics: Statistics, block: int, notes: tuple[str, ...] = ()
    ) -> None:
        release_freed()  # before a wide statistic is factored, which is where a run is largest
        plan = self._plan
        exact = AutocorrelationScaling(AutocorrelationSpec()).factor(statistics)
        is_exact = isinstance(plan.recipe.scaling, AutocorrelationSpec)
        scaling = exact if is_exact else self._scaling.factor(statistics)
        seed = self._seed(layers[0].name)
        probe = WhiteNoiseProbe(scaling, layers[0].shape[1], plan.recipe, seed=seed, device=plan.device)
        method = Method(plan.recipe, scaling, exact, self._selector, probe)
        for layer in layers:
            if self._is_finished(layer):
                continue
            self._monitor.check()
            self._compress(layer, method, statistics, block, notes)

    def _compress(
        self, layer: Layer, method: Method, statistics: Statistics, block: int, notes: tuple[str, ...]
    ) -> None:
        began = time.perf_counter()
        seed = self._seed(layer.name)
        weight = self._weight(layer)
        recipe = self._plan.recipe_of(layer)
        try:
            result = decompose(
                weight,
                replace(method, recipe=recipe),
                lambda target: self._quantizer.quantize(target, statistics, seed=seed),
                seed=seed,
            )
        except (NonFiniteWeightError, NumericalError) as error:
            raise type(error)(f"layer {layer.name}: {error}") from error
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # public, but not declared so
            raise NumericalError(
                f"layer {layer.name}: a factorization failed, as values near the end of float32 do"
            ) from error
        tensors = self._plan.layout.layer_tensors(layer.name, result.quantized)
        adapter: Mapping[str, Tensor] = {}
        if layer.is_stacked:
            tensors |= beside_tensors(layer.name, result.left, result.right)
        elif recipe.rank:
            adapter = adapter_tensors(layer.name, result.left, result.right, rank=recipe.rank, shape=layer.shape)
        report = self._report(layer, result, statistics, method.exact.condition, time.perf_counter() - began, notes)
        record = LayerRecord(
            name=layer.name,
            digest=layer_digest(result.quantized, result.left, result.right),
            base_tensors=tuple(tensors),
            adapter_tensors=tuple(adapter),
            report=report,
        )
        self._work.finish(self._positions[layer.name], {**tensors, **adapter}, record)
        metrics = {"output_error": report.output_error, "preserved_rank": float(report.preserved_rank)}
        metrics["seconds"] = report.seconds
        self._monitor.advance(Stage.COMPRESS, layer=layer.name, block=block, metrics=metrics)

    def _weight(self, layer: Layer) -> Tensor:
        weights = self._plan.weights
        part = layer.expert if layer.is_stacked else None
        weight = weights[layer.tensor] if part is None else weights.part(layer.tensor, part.index)
        weight = weight.to(self._plan.device, torch.float32)
        return weight.mT.contiguous() if layer.is_transposed else weight

    def _report(
        self,
        layer: Layer,
        result: Decomposition,
        statistics: Statistics,
        condition: float | None,
        seconds: float,
        notes: tuple[str, ...],
    ) -> LayerReport:
        errors = asdict(result.errors)
        return LayerReport(
            name=layer.name,
            shape=layer.shape,
            rank=0 if result.left is None else result.left.shape[1],
            preserved_rank=result.preserved_rank,
            preserved_overlap=result.preserved_overlap,
            iterations=result.iterations,
            output_error=errors["output"],
            output_error_quantized_only=errors["quantized_output"],
            scaled_error=errors["scaled"],
            weight_error=errors["weight"],
            correction_ratio=errors["correction"],
            bits_per_weight=self._plan.recipe_of(layer).bits_per_weight(*layer.shape),
            calibration_tokens=statistics.num_tokens,
            condition=condition,
            seconds=round(seconds, 4),
            notes=(*notes, *_scarcity(statistics.num_tokens, layer.shape[1]), *result.notes),
        )

    def _is_finished(self, layer: Layer) -> bool:
        return self._work.finished(self._positions[layer.name], layer.name) is not None

    def _seed(self, name: str) -> int:
        # From names alone, so that neither the order of layers nor the number of workers matters.
        text = f"{self._plan.model_id}\0{name}\0{self._plan.recipe.seed}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def _scarcity(num_tokens: int, in_features: int) -> tuple[str, ...]:
    if not 0 < num_tokens < in_features:  # no token at all has a note of its own
        return ()
    return (
        f"calibrated on {num_tokens} tokens, fewer than its {in_features} inputs, so the error on other text may be "
        "larger; give more or longer calibration sequences",
    )


def _require_finite(module: nn.Module, block: Block) -> None:
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            bad = int((~torch.isfinite(parameter)).sum())
            raise NonFiniteWeightError(
                f"{block.path}.{name} holds {bad} values that are NaN or infinite; repair the source checkpoint"
            )


def finished_layers(plan: RunPlan, work: WorkFolder) -> Iterator[tuple[Layer, LayerRecord]]:
    """Yield every layer that is finished, with its record, in the order of the plan."""
    for index, layer in enumerate(plan.layers.layers):
        found = work.finished(index, layer.name)
        if found is not None:
            yield layer, found.record
