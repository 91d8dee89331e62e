"""The tensors of a model by name, type and shape, from the headers of its files."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from service.hub.errors import InvalidWeightsError
from service.hub.model import RepoFile, ResolvedModel
from srr_core.checkpoint.header_text import ITEM_BYTES, HeaderEntry
from srr_core.errors import CheckpointError
from srr_core.recipe import cost

MAX_FILES = 2_000
"""The largest published model has 163 files of weights; each costs a request."""
MAX_TENSORS = 250_000
"""In all. The largest mixtures have about 100,000."""
_IN_BLOCK = re.compile(r"(.*?\.\d+)\.(.*)")
_ROUTER = re.compile(r"(^|\.)(gate|router|shared_expert_gate)\.weight$")
_EXPERTS = re.compile(r"(^|\.|_)experts?(\.|_|$)")
"""In the name of a tensor of three dimensions: the matrices of all experts of a block, one after the other."""

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
    header_bytes: int = 0
    """Of all files: everything that was read of them."""

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
            if (
                len(tensor.shape) == 2
                and 0 not in tensor.shape
                and rest.endswith(".weight")
                and not _ROUTER.search(rest)
            ):
                shapes.append((tensor.shape[0], tensor.shape[1]))
                layers.setdefault(block, []).append((rest.removesuffix(".weight"), tensor.shape[1]))
            elif len(tensor.shape) == 3 and _EXPERTS.search(rest):
                shapes += [(tensor.shape[1], tensor.shape[2])] * tensor.shape[0]
        first = next(iter(layers.values()), [])
        return Anatomy(tuple(shapes), max(blocks.values(), default=0), cost.input_widths(first))

    @property
    def parameters(self) -> int:
        """Number of stored values; tied weights that are stored once count once."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def compressed_share(self) -> float:
        """Part of the bytes that lies in the weights a run would compress, judged as `anatomy` does."""
        total = sum(math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype] for tensor in self.tensors.values())
        average = total / max(self.parameters, 1)
        return sum(math.prod(shape) for shape in self.anatomy.shapes) * average / total if total else 0.0

    @property
    def dtypes(self) -> Mapping[str, int]:
        """Number of values of each type, the most common first."""
        counts: dict[str, int] = {}
        for tensor in self.tensors.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


HeaderReader = Callable[[Sequence[RepoFile]], Iterable[Mapping[str, HeaderEntry]]]
"""Returns the headers of files, in their order. Raises CheckpointError."""


def read_weights(model: ResolvedModel, read: HeaderReader) -> Weights:
    """Collect the headers of a model's files, in the order of its files.

    Raises:
        InvalidWeightsError: a header is damaged, a file lacks a tensor that the index places in it, or there are more
            files or tensors than any model has.
    """
    tensors: dict[str, StoredTensor] = {}
    header_bytes = 0
    if len(model.weights) > MAX_FILES:
        raise InvalidWeightsError(f"{model.model_id} has {len(model.weights):,} files of weights; push fewer, larger.")
    try:
        for file, header in zip(model.weights, read(model.weights), strict=True):
            if len(tensors) + len(header) > MAX_TENSORS:
                raise InvalidWeightsError(
                    f"{model.model_id} declares more than {MAX_TENSORS:,} tensors; no model has so many."
                )
            header_bytes += min((entry.begin for entry in header.values()), default=0)
            # Of two tensors of one name the later counts, as for stock loaders.
            tensors |= {name: StoredTensor(entry.dtype, entry.shape, file.path) for name, entry in header.items()}
    except CheckpointError as error:
        raise InvalidWeightsError(
            f"The weights of {model.model_id} cannot be read: {error}. Ask its owner to upload them again."
        ) from error
    for name, path in ((model.index or {}).get("weight_map") or {}).items():
        if name not in tensors:
            raise InvalidWeightsError(
                f"The index of {model.model_id} places {name} in {path}, which does not hold it; ask its owner to "
                "upload the weights again."
            )
    return Weights(tensors, header_bytes)
