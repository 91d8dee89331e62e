"""Headers of weights: what is wrong with them, and what they tell of a model."""

import pytest

from service.hub.errors import InvalidWeightsError
from service.hub.model import RepoFile, ResolvedModel
from service.hub.weights import StoredTensor, Weights, read_weights


def model(size_bytes: int) -> ResolvedModel:
    """Return a model with one file of weights."""
    file = RepoFile("model.safetensors", size_bytes)
    return ResolvedModel("org/model", "0" * 40, private=False, gated=False, files=(file,))


@pytest.mark.parametrize(("size_bytes", "state"), [(0, "is empty"), (7, "is damaged"), (9, "is damaged")])
def test_a_file_too_short_for_a_header_is_called_what_it_is(size_bytes: int, state: str) -> None:
    with pytest.raises(InvalidWeightsError, match=f"model.safetensors of org/model {state}"):
        read_weights(model(size_bytes), lambda files: ())


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
