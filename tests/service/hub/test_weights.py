"""Headers of weights: what is wrong with them, and what they tell of a model."""

import pytest

from service.hub.errors import InvalidWeightsError
from service.hub.headers import STRANGERS, read_header
from service.hub.model import RepoFile, ResolvedModel
from service.hub.weights import StoredTensor, Weights, read_weights
from tests.service.models import safetensors


def model(size_bytes: int) -> ResolvedModel:
    """Return a model with one file of weights."""
    file = RepoFile("model.safetensors", size_bytes)
    return ResolvedModel("org/model", "0" * 40, private=False, gated=False, files=(file,))


@pytest.mark.parametrize(
    ("content", "size_bytes", "reason"),
    [
        (b"", 0, "is empty"),
        (b"1234567", 7, "not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1", 42, "pointer of git-lfs"),
        (safetensors({"a": (4,)}), 20, "not a safetensors file|truncated|damaged"),
        (safetensors({"a": (4,)}), len(safetensors({"a": (4,)})) - 1, "is truncated"),
        ((STRANGERS.header_bytes + 1).to_bytes(8, "little"), 2**40, "are the most that are read"),
        ((1000).to_bytes(8, "little"), 2**40, "its header is cut off"),
        (safetensors({str(n): (0,) for n in range(STRANGERS.tensors + 1)}), None, "declares 50001 tensors"),
    ],
)
def test_a_file_that_is_none_is_called_what_it_is(content: bytes, size_bytes: int | None, reason: str) -> None:
    with pytest.raises(InvalidWeightsError, match=f"org/model.*model.safetensors: .*{reason}"):
        read_weights(
            model(len(content) if size_bytes is None else size_bytes),
            lambda files: (read_header(file, lambda begin, end: content[begin:end]) for file in files),
        )


def test_stacked_experts_count_as_the_matrices_that_they_are() -> None:
    shapes = {
        "layers.0.mlp.experts.gate_up_proj": (4, 16, 8),
        "layers.0.conv.weight": (4, 1, 3),
        "embed.weight": (2, 8),
    }
    weights = Weights({name: StoredTensor("BF16", shape, "model.safetensors") for name, shape in shapes.items()})

    assert weights.anatomy.shapes == ((16, 8),) * 4
    assert weights.compressed_share == pytest.approx(512 / (512 + 12 + 16))


def test_matrices_of_blocks_are_compressed_and_routers_norms_and_embeddings_are_not() -> None:
    shapes = {
        "embed_tokens.weight": (100, 8),
        "layers.0.attn.q.weight": (8, 8),
        "layers.0.attn.k.weight": (4, 8),
        "layers.0.mlp.down.weight": (8, 32),
        "layers.0.mlp.gate.weight": (2, 8),
        "layers.0.norm.weight": (8,),
        "layers.1.attn.q.weight": (8, 8),
    }
    anatomy = Weights(
        {name: StoredTensor("BF16", shape, "model.safetensors") for name, shape in shapes.items()}
    ).anatomy

    assert sorted(anatomy.shapes) == [(4, 8), (8, 8), (8, 8), (8, 32)]
    assert anatomy.largest_block == 64 + 32 + 256 + 16 + 8
    assert anatomy.input_widths == (8, 8, 32)
