"""The port every way of writing one quantized weight into a checkpoint fulfils."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.checkpoint.artifact_names import MARKER_VERSION
from srr_core.formats.checked import ReadTensor
from srr_core.formats.codecs import SHAPE_SUFFIX, Codec
from srr_core.formats.stored_forms import MIXED, mixed_entry
from srr_core.recipe import QuantizerSpec, Recipe
from srr_core.types import QuantizedTensor


class Layout(ABC):
    """How one quantized weight is written in the native checkpoint, and read again."""

    stock_loadable: bool
    """Whether transformers with compressed-tensors and peft loads it without this package."""

    def __init__(self, spec: QuantizerSpec, codec: Codec, mixed: Mapping[str, "Layout"] | None = None) -> None:
        self.spec = spec
        self.codec = codec
        self._mixed = dict(mixed or {})

    def of(self, module_name: str) -> "Layout":
        """Return the layout of one layer, which may have another quantizer than most."""
        return self._mixed.get(module_name, self)

    @property
    def mixed(self) -> Mapping[str, QuantizerSpec]:
        """The quantizers of layers that have another one than most."""
        return {module: layout.spec for module, layout in self._mixed.items()}

    def tensor_names(self, module_name: str) -> tuple[str, ...]:
        """Return the names `layer_tensors` writes for a layer."""
        return tuple(f"{module_name}.{suffix}" for suffix in (*self.codec.declared((1, 1)), SHAPE_SUFFIX))

    def layer_tensors(self, module_name: str, quantized: QuantizedTensor) -> dict[str, Tensor]:
        """Return the tensors of one layer under their names in the file, contiguous and on the CPU.

        Raises:
            ExportError: the layout cannot hold these codes or scales exactly.
        """
        tensors = self.of(module_name).codec.pack(module_name, quantized)
        tensors[SHAPE_SUFFIX] = torch.tensor(quantized.shape, dtype=torch.int64)
        return stored({f"{module_name}.{suffix}": tensor for suffix, tensor in tensors.items()})

    def read_layer(self, module_name: str, read: ReadTensor) -> QuantizedTensor:
        """Return what `layer_tensors` was given: the exact inverse.

        Args:
            read: Returns a tensor of the checkpoint by its full name; raises for a missing one.
        Raises:
            CheckpointError: a tensor has the wrong dtype or shape; the message names it.
        """
        return self.of(module_name).codec.unpack(module_name, read)

    @abstractmethod
    def loaded_weight(self, quantized: QuantizedTensor) -> Float[Tensor, "out in"]:
        """Return, in float32, the weight a model loaded in float32 gets from this layout."""

    @abstractmethod
    def quantization_config(self, recipe: Recipe, *, ignore: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
        """Return the `quantization_config` of config.json.

        Args:
            ignore: Full names of the Linear modules that stay in 16 bit.
            modules: Full names of the compressed modules, as they are spelt in the file.
        """

    def marker(self, recipe: Recipe) -> dict[str, Any]:
        """Return what our own loader needs and others ignore: the grid, and whether an adapter belongs to it."""
        entry = {"version": MARKER_VERSION, "quantizer": self.spec.model_dump(mode="json"), "rank": recipe.rank}
        return {**entry, MIXED: mixed_entry(self.mixed)} if self._mixed else entry


def stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors wants them: on the CPU, contiguous, and each in its own storage."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
