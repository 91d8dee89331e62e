"""Integer codes in the pack-quantized format of compressed-tensors, which stock tools load.

Per layer: `weight_packed` (int32 stream of code + 2**(b-1)), `weight_scale` (bf16 for MXINT, whose
scales are powers of two; fp16 for integer groups), `weight_shape` (int64) and, for asymmetric
groups, `weight_zero_point` (the same stream along the output dimension). 3, 5, 6 and 7 bits need
compressed-tensors >= 0.18 to be read; older ones refuse the shape.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.checkpoint.artifact_names import COMPRESSED_TENSORS, MARKER
from srr_core.errors import ExportError
from srr_core.formats.grid import scale_dtype
from srr_core.formats.layout import Layout
from srr_core.formats.stored_forms import word_codec
from srr_core.recipe import QuantizerSpec, Recipe
from srr_core.types import QuantizedTensor

FORMAT = "pack-quantized"


class CompressedTensorsLayout(Layout):
    """The native layout of every uniform grid whose groups divide the input dimension.

    The official decoder multiplies in the dtype of the scale. For MXINT that is exact; with an fp16
    scale every weight is rounded once to fp16, which `loaded_weight` reproduces.

    Raises:
        ExportError: the specification is not a uniform grid.
    """

    stock_loadable = True

    def __init__(self, spec: QuantizerSpec) -> None:
        codec = word_codec(spec)
        super().__init__(spec, codec)
        self.grid = codec.grid

    def layer_tensors(self, module_name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of one layer under their names in the file.

        Raises:
            ExportError: other codes than integers, a group that does not divide the inputs (the
                official decoder refuses it), or a scale that the stored dtype would round.
        """
        if not self.grid.divides(quantized.shape[1]):
            raise ExportError(
                f"{module_name} has {quantized.shape[1]} inputs, which its group of {self.grid.group_size} does not "
                "divide; compressed-tensors cannot hold it, use the srr layout"
            )
        return super().layer_tensors(module_name, quantized)

    def loaded_weight(self, quantized: QuantizedTensor) -> Float[Tensor, "out in"]:
        """Return, in float32, the weight a model loaded in float32 gets from this layout."""
        return quantized.dequantize().to(scale_dtype(self.grid)).to(torch.float32)

    def quantization_config(self, recipe: Recipe, *, ignore: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
        """Return the `quantization_config` of config.json.

        `dequantize` makes transformers decompress while loading, without which PEFT finds no weight
        to attach the adapter to. Our marker is an extra key that other readers ignore.
        """
        weights = {
            "num_bits": self.grid.num_bits,
            "type": "int",
            "symmetric": self.grid.is_symmetric,
            "strategy": "group",
            "group_size": self.grid.group_size,
            "dynamic": False,
        }
        return {
            "quant_method": COMPRESSED_TENSORS,
            "format": FORMAT,
            "quantization_status": "compressed",
            "dequantize": True,
            "ignore": sorted(ignore),
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
            MARKER: self.marker(recipe),
        }
