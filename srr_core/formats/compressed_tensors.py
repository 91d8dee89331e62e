"""Integer codes in the pack-quantized format of compressed-tensors, which stock tools load.

Per layer: `weight_packed` (int32 stream of code + 2**(b-1)), `weight_scale` (bf16 for MXINT, whose
scales are powers of two; fp16 for integer groups), `weight_shape` (int64) and, for asymmetric
groups, `weight_zero_point` (the same stream along the output dimension). 3, 5, 6 and 7 bits need
compressed-tensors >= 0.18 to be read; older ones refuse the shape.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from srr_core.checkpoint.artifact_names import COMPRESSED_TENSORS, MARKER
from srr_core.errors import ExportError
from srr_core.formats.grid import scale_dtype
from srr_core.formats.layout import Layout
from srr_core.formats.stored_forms import word_codec
from srr_core.recipe import QuantizerSpec, Recipe, UniformGrid
from srr_core.types import QuantizedTensor

FORMAT = "pack-quantized"
_FROM_BLOCK = re.compile(r"(?:^|\.)([^.]+\.\d+\..+)$")


class CompressedTensorsLayout(Layout):
    """The native layout of every uniform grid whose groups divide the input dimension.

    The official decoder multiplies in the dtype of the scale. For MXINT that is exact; with an fp16
    scale every weight is rounded once to fp16, which `decoded_weight` reproduces.

    Layers with grids of their own are in config groups that name them. Transformers 5.23 knows one scheme only when it
    decompresses while loading, so these files leave that to the modules; then it cannot read packed zero points, nor
    attach an adapter, and says so. Our own loader reads all of them.

    Args:
        mixed: Quantizers of layers that have another one, by name.
        rank: Of the adapter beside it.
    Raises:
        ExportError: the specification is not a uniform grid.
    """

    def __init__(self, spec: QuantizerSpec, mixed: Mapping[str, QuantizerSpec] | None = None, *, rank: int = 0) -> None:
        codec = word_codec(spec)
        self._others = {module: CompressedTensorsLayout(other) for module, other in (mixed or {}).items()}
        super().__init__(spec, codec, self._others)
        self.grid = codec.grid
        self.stock_loadable = not mixed or (self.grid.is_symmetric and rank == 0)

    @override
    def of(self, module_name: str) -> "CompressedTensorsLayout":
        """Return the layout of one layer, which may have another quantizer than most."""
        return self._others.get(module_name, self)

    def layer_tensors(self, module_name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of one layer under their names in the file.

        Raises:
            ExportError: other codes than integers, a group that does not divide the inputs (the
                official decoder refuses it), or a scale that the stored dtype would round.
        """
        grid = self.of(module_name).grid
        if not grid.divides(quantized.shape[1]):
            raise ExportError(
                f"{module_name} has {quantized.shape[1]} inputs, which its group of {grid.group_size} does not "
                "divide; compressed-tensors cannot hold it, use the srr layout"
            )
        return super().layer_tensors(module_name, quantized)

    def loaded_weight(self, quantized: QuantizedTensor) -> Float[Tensor, "out in"]:
        """Return, in float32, the weight a model loaded in float32 gets from this layout."""
        # Modules that decompress themselves, and our loader, hold scales in float32 and round nothing.
        return quantized.dequantize() if self.mixed else self.decoded_weight(quantized)

    def decoded_weight(self, quantized: QuantizedTensor) -> Float[Tensor, "out in"]:
        """Return, in float32, what the official decoder makes of this layout."""
        return quantized.dequantize().to(scale_dtype(self.grid)).to(torch.float32)

    def quantization_config(self, recipe: Recipe, *, ignore: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
        """Return the `quantization_config` of config.json.

        `dequantize` makes transformers decompress while loading, without which PEFT finds no weight
        to attach the adapter to. Our marker is an extra key that other readers ignore.
        """
        return {
            "quant_method": COMPRESSED_TENSORS,
            "format": FORMAT,
            "quantization_status": "compressed",
            "dequantize": not self.mixed,
            "ignore": sorted(ignore),
            "config_groups": self._config_groups(modules),
            MARKER: self.marker(recipe),
        }

    def _config_groups(self, modules: Sequence[str]) -> dict[str, Any]:
        if not self.mixed:
            return {"group_0": {"targets": ["Linear"], "weights": _scheme(self.grid)}}
        by_grid: dict[UniformGrid, list[str]] = {}
        for module in modules:
            by_grid.setdefault(self.of(module).grid, []).append(module)
        ordered = sorted(by_grid.items(), key=lambda item: (-len(item[1]), item[1]))
        return {
            f"group_{number}": {"targets": sorted(map(_target, members)), "weights": _scheme(grid)}
            for number, (grid, members) in enumerate(ordered)
        }


def _target(module: str) -> str:
    """Return an expression for one module; from its block on, so that a model without its head finds it too."""
    match = _FROM_BLOCK.search(module)
    return rf"re:(?:.*\.)?{re.escape(match.group(1) if match else module)}$"


def _scheme(grid: UniformGrid) -> dict[str, Any]:
    return {
        "num_bits": grid.num_bits,
        "type": "int",
        "symmetric": grid.is_symmetric,
        "strategy": "group",
        "group_size": grid.group_size,
        "dynamic": False,
    }
