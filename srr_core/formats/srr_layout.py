"""Our own layout, for codes that stock formats cannot hold; read by `srr_core.runtime` only.

Per layer: `weight` (the packed codes, one-dimensional on purpose), `weight_shape`, and whatever the
codec of the grid adds. Without this package transformers stops at the shape of `weight`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from srr_core.checkpoint.artifact_names import MARKER
from srr_core.formats.layout import Layout
from srr_core.formats.stored_forms import byte_codec
from srr_core.recipe import QuantizerSpec, Recipe
from srr_core.types import QuantizedTensor


class SRRLayout(Layout):
    """The layout of NormalFloat and lattice codes, of Conv1D models and of groups that do not divide the inputs."""

    def __init__(self, spec: QuantizerSpec, mixed: Mapping[str, QuantizerSpec] | None = None) -> None:
        others = {module: SRRLayout(other) for module, other in (mixed or {}).items()}
        super().__init__(spec, byte_codec(spec), others)
        self.stock_loadable = False

    def loaded_weight(self, quantized: QuantizedTensor) -> Float[Tensor, "out in"]:
        """Return, in float32, the weight a model loaded in float32 gets from this layout."""
        return quantized.dequantize()

    def quantization_config(self, recipe: Recipe, *, ignore: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
        """Return the `quantization_config` of config.json; the modules are listed, nothing is inferred."""
        return {"quant_method": MARKER, "ignore": sorted(ignore), "modules": sorted(modules), **self.marker(recipe)}
