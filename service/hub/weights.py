"""The tensors of a model by name, type and shape, from the headers of its files."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from huggingface_hub.errors import SafetensorsParsingError
from huggingface_hub.utils._safetensors import SafetensorsFileMetadata

from service.hub.errors import InvalidWeightsError
from service.hub.model import RepoFile, ResolvedModel

_MALFORMED = (SafetensorsParsingError, KeyError, TypeError, ValueError, AttributeError)
"""What the client's parser raises for headers that are not as the format says; not all of it is its own."""


_SMALLEST_BYTES = 8 + 2
"""The length of the header, and the shortest header there is."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as a header declares it. Nobody has read its values."""

    dtype: str
    """safetensors' own word: F32, BF16, U8 ..."""
    shape: tuple[int, ...]
    file: str


@dataclass(frozen=True)
class Weights:
    """Every tensor of a model, by name."""

    tensors: Mapping[str, StoredTensor]

    @property
    def parameters(self) -> int:
        """Number of stored values; tied weights that are stored once count once."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def dtypes(self) -> Mapping[str, int]:
        """Number of values of each type, the most common first."""
        counts: dict[str, int] = {}
        for tensor in self.tensors.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


HeaderReader = Callable[[Sequence[RepoFile]], Iterable[SafetensorsFileMetadata]]


def read_weights(model: ResolvedModel, read: HeaderReader) -> Weights:
    """Collect the headers of a model's files, in the order of its files.

    Raises:
        InvalidWeightsError: a header is damaged, or two files declare the same tensor.
    """
    tensors: dict[str, StoredTensor] = {}
    empty = next((file for file in model.weights if file.size_bytes < _SMALLEST_BYTES), None)
    if empty is not None:
        raise InvalidWeightsError(f"{empty.path} of {model.model_id} is empty; ask its owner to upload it again.")
    try:
        for file, header in zip(model.weights, read(model.weights), strict=True):
            _add(tensors, model, file, header)
    except _MALFORMED as error:
        raise InvalidWeightsError(
            f"A safetensors file of {model.model_id} has a damaged header ({type(error).__name__}); ask its owner to "
            "upload it again."
        ) from None
    return Weights(tensors)


def _add(
    tensors: dict[str, StoredTensor], model: ResolvedModel, file: RepoFile, header: SafetensorsFileMetadata
) -> None:
    for name, tensor in header.tensors.items():
        if name in tensors:
            raise InvalidWeightsError(
                f"{model.model_id} declares {name} in {tensors[name].file} and in {file.path}; ask its owner which one "
                "is meant."
            )
        tensors[name] = StoredTensor(str(tensor.dtype), tuple(int(size) for size in tensor.shape), file.path)
