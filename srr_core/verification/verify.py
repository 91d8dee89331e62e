"""The last look at an artifact: read back from disk, decoded by the official code, compared bit for bit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationScheme
from compressed_tensors.utils.match import match_name
from torch import Tensor

from srr_core.errors import CheckpointError, VerificationError
from srr_core.formats.artifact import Artifact, open_artifact
from srr_core.formats.compressed_tensors import CompressedTensorsLayout
from srr_core.formats.grid import to_signed
from srr_core.types import IntegerTensor
from srr_core.verification.digest import layer_digest


@dataclass(frozen=True)
class ExpectedLayer:
    """What a run computed for one layer: `layer_digest` of its codes, scales and factors."""

    module_name: str
    digest: str


def verify_artifact(
    directory: Path, expected: Iterable[ExpectedLayer], *, on_layer: Callable[[str], None] | None = None
) -> None:
    """Check that the files hold exactly the layers that were computed, one layer in memory at a time.

    Args:
        on_layer: Called with each module's name after it was found right.
    Raises:
        VerificationError: the first difference; the message names the file and the tensor.
    """
    try:
        artifact = open_artifact(directory)
    except CheckpointError as error:
        raise VerificationError(f"the artifact cannot be read back: {error}") from error
    layers = {layer.module_name: layer for layer in expected}
    for name in sorted(layers.keys() ^ set(artifact.module_names())):
        state = "was compressed but is not in the artifact" if name in layers else "is in the artifact unasked"
        raise VerificationError(f"layer {name} {state}")
    for layer in layers.values():
        _verify_layer(artifact, layer)
        if on_layer is not None:
            on_layer(layer.module_name)


def _verify_layer(artifact: Artifact, expected: ExpectedLayer) -> None:
    name = expected.module_name
    file = artifact.weights.entry(artifact.layout.tensor_names(name)[0]).file.name
    try:
        stored = artifact.read_layer(name)
    except CheckpointError as error:
        raise VerificationError(f"{file}: {error}") from error
    if layer_digest(stored.quantized, stored.left, stored.right) != expected.digest:
        raise VerificationError(f"{file}: layer {name} is not what was computed: its codes, scales or factors differ")
    if isinstance(artifact.layout, CompressedTensorsLayout) and isinstance(stored.quantized, IntegerTensor):
        _verify_official_decoding(artifact, artifact.layout, name, stored.quantized, file)


def _verify_official_decoding(
    artifact: Artifact, layout: CompressedTensorsLayout, name: str, integer: IntegerTensor, file: str
) -> None:
    layout = layout.of(name)
    tensors = {full.removeprefix(f"{name}."): artifact.weights[full] for full in layout.tensor_names(name)}
    codes = unpack_from_int32(tensors["weight_packed"], layout.grid.num_bits, torch.Size(integer.shape))
    _require_equal(codes, to_signed(integer.codes, layout.grid), f"{file}: tensor {name}.weight_packed", "codes")
    scheme = _stated_scheme(artifact.config["quantization_config"]["config_groups"], name, file)
    decoded = PackedQuantizationCompressor.decompress(tensors, scheme)["weight"]
    weight = layout.decoded_weight(integer)
    _require_equal(decoded.to(torch.float32), weight, f"{file}: layer {name}", "weights")


def _stated_scheme(groups: Mapping[str, Any], name: str, file: str) -> QuantizationScheme:
    """Return what config.json says of a layer, found as compressed-tensors finds it."""
    schemes = [QuantizationScheme.model_validate(group) for group in groups.values()]
    if len(schemes) == 1:
        return schemes[0]
    found = [scheme for scheme in schemes if any(match_name(name, target) for target in scheme.targets)]
    if len(found) != 1:
        raise VerificationError(f"{file}: {len(found)} groups of config.json name the layer {name}, which needs one")
    return found[0]


def _require_equal(found: Tensor, wanted: Tensor, where: str, what: str) -> None:
    if not torch.equal(found, wanted):
        count = int((found != wanted).sum()) if found.shape == wanted.shape else wanted.numel()
        raise VerificationError(f"{where}: compressed-tensors decodes {count} of {wanted.numel()} {what} differently")
