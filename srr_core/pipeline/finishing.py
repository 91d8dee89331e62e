"""A layer that is decomposed becomes tensors in a folder, and a row of the report."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

from srr_core.formats.adapter import adapter_tensors, beside_tensors
from srr_core.formats.layout import Layout
from srr_core.models.layers import Layer
from srr_core.pipeline.layer_folder import LayerFolder
from srr_core.pipeline.layer_record import LayerRecord
from srr_core.report import LayerReport, LayerSpectrum, LearningReport
from srr_core.srr import Method
from srr_core.types import Decomposition
from srr_core.verification.digest import layer_digest


@dataclass(frozen=True)
class DecomposedLayer:
    """One layer that is decomposed and not yet written."""

    layer: Layer
    method: Method
    result: Decomposition
    num_tokens: int
    notes: tuple[str, ...]
    seconds: float


def write_layer(
    folder: LayerFolder,
    index: int,
    layout: Layout,
    item: DecomposedLayer,
    *,
    learning: LearningReport | None = None,
    together: tuple[str, ...] = (),
) -> LayerReport:
    """Make a layer durable, and return what the report says of it.

    Args:
        index: Its place in the plan.
        learning: How its block learned, where it did.
        together: The layers it learned with.
    Raises:
        StorageError: the disk is full.
    """
    layer, result, recipe = item.layer, item.result, item.method.recipe
    tensors = layout.layer_tensors(layer.name, result.quantized)
    adapter: Mapping[str, Tensor] = {}
    if layer.is_stacked:
        tensors |= beside_tensors(layer.name, result.left, result.right)
    elif recipe.rank:
        adapter = adapter_tensors(layer.name, result.left, result.right, rank=recipe.rank, shape=layer.shape)
    report = _report(item, learning)
    record = LayerRecord(
        name=layer.name,
        digest=layer_digest(result.quantized, result.left, result.right),
        base_tensors=tuple(tensors),
        adapter_tensors=tuple(adapter),
        report=report,
        together=together,
    )
    folder.finish(index, {**tensors, **adapter}, record)
    return report


def _report(item: DecomposedLayer, learning: LearningReport | None) -> LayerReport:
    layer, result = item.layer, item.result
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
        bits_per_weight=item.method.recipe.bits_per_weight(*layer.shape),
        calibration_tokens=item.num_tokens,
        condition=item.method.exact.condition,
        seconds=round(item.seconds, 4),
        spectrum=_spectrum(layer, result),
        learning=learning,
        notes=(*item.notes, *_scarcity(item.num_tokens, layer.shape[1]), *result.notes),
    )


def _spectrum(layer: Layer, result: Decomposition) -> LayerSpectrum | None:
    if layer.expert is not None or result.spectra is None:
        return None
    return LayerSpectrum(weight=result.spectra.weight, error=result.spectra.error)


def _scarcity(num_tokens: int, in_features: int) -> tuple[str, ...]:
    if not 0 < num_tokens < in_features:  # no token at all has a note of its own
        return ()
    return (
        f"calibrated on {num_tokens} tokens, fewer than its {in_features} inputs, so the error on other text may be "
        "larger; give more or longer calibration sequences",
    )
