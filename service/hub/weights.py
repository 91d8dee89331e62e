"""The tensors of a model by name, type and shape, from the headers of its files."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from service.hub.errors import InvalidWeightsError
from service.hub.headers import DamagedHeaderError, TensorHeader
from service.hub.model import RepoFile, ResolvedModel
from srr_core.recipe import cost

MAX_FILES = 2_000
"""The largest published model has 163 files of weights; each costs a request."""
MAX_TENSORS = 250_000
"""In all. The largest mixtures have about 100,000."""
_SMALLEST_BYTES = 8 + 2
"""The length of the header, and the shortest header there is."""
_IN_BLOCK = re.compile(r"(.*?\.\d+)\.(.*)")
_ROUTER = re.compile(r"(^|\.)(gate|router|shared_expert_gate)\.weight$")

Shape = tuple[int, int]


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as a header declares it. Nobody has read its values."""

    dtype: str
    """safetensors' own word: F32, BF16, U8 ..."""
    shape: tuple[int, ...]
    file: str


@dataclass(frozen=True)
class Anatomy:
    """What a run would make of a model, judged by names and shapes: matrices of repeated blocks are compressed.

    The core decides by the model class; without it, a transposed layer counts the wrong way round.
    """

    shapes: tuple[Shape, ...]
    """(out, in) of every compressed weight."""
    largest_block: int
    """Values in the largest of the repeated blocks."""
    input_widths: tuple[int, ...]
    """Width of every distinct input of the layers of the first block."""


@dataclass(frozen=True)
class Weights:
    """Every tensor of a model, by name."""

    tensors: Mapping[str, StoredTensor]

    @cached_property
    def anatomy(self) -> Anatomy:
        """The blocks and the weights in them that a run would compress."""
        shapes: list[Shape] = []
        blocks: dict[str, int] = {}
        layers: dict[str, list[tuple[str, int]]] = {}
        for name, tensor in self.tensors.items():
            found = _IN_BLOCK.fullmatch(name)
            if found is None:
                continue
            block, rest = found.groups()
            blocks[block] = blocks.get(block, 0) + math.prod(tensor.shape)
            is_matrix = len(tensor.shape) == 2 and 0 not in tensor.shape
            if is_matrix and rest.endswith(".weight") and not _ROUTER.search(rest):
                shapes.append((int(tensor.shape[0]), int(tensor.shape[1])))
                layers.setdefault(block, []).append((rest.removesuffix(".weight"), int(tensor.shape[1])))
        first = next(iter(layers.values()), [])
        return Anatomy(tuple(shapes), max(blocks.values(), default=0), cost.input_widths(first))

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


Header = Mapping[str, TensorHeader]
HeaderReader = Callable[[Sequence[RepoFile]], Iterable[Header]]


def read_weights(model: ResolvedModel, read: HeaderReader) -> Weights:
    """Collect the headers of a model's files, in the order of its files.

    Raises:
        InvalidWeightsError: a header is damaged or does not fit its file, or two files declare the same tensor.
    """
    tensors: dict[str, StoredTensor] = {}
    short = next((file for file in model.weights if file.size_bytes < _SMALLEST_BYTES), None)
    if short is not None:
        state = "damaged: it is too short for a header" if short.size_bytes else "empty"
        raise InvalidWeightsError(f"{short.path} of {model.model_id} is {state}; ask its owner to upload it again.")
    if len(model.weights) > MAX_FILES:
        raise InvalidWeightsError(f"{model.model_id} has {len(model.weights):,} files of weights; push fewer, larger.")
    try:
        for file, header in zip(model.weights, read(model.weights), strict=True):
            _add(tensors, model, file, header)
    except DamagedHeaderError as error:
        raise InvalidWeightsError(
            f"A safetensors file of {model.model_id} is damaged: {error}; ask its owner to upload it again."
        ) from None
    return Weights(tensors)


def _add(tensors: dict[str, StoredTensor], model: ResolvedModel, file: RepoFile, header: Header) -> None:
    if len(tensors) + len(header) > MAX_TENSORS:
        raise InvalidWeightsError(f"{model.model_id} declares more than {MAX_TENSORS:,} tensors; no model has so many.")
    for name, tensor in header.items():
        if name in tensors:
            raise InvalidWeightsError(
                f"{model.model_id} declares {name} in {tensors[name].file} and in {file.path}; ask its owner which one "
                "is meant."
            )
        tensors[name] = StoredTensor(tensor.dtype, tensor.shape, file.path)
