"""Block by block gives what the whole stock model gives, for every supported architecture."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from srr_core.calibration.dataset import TokenWindows
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError
from srr_core.evaluators.perplexity import perplexity
from srr_core.evaluators.tokens import token_losses
from srr_core.models.architecture import Architecture
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import plan_layers
from tests.pico import ARCHITECTURES, build_checkpoint

CPU = torch.device("cpu")


def _open(directory: Path) -> tuple[BlockwiseModel, Architecture]:
    architecture, weights = Architecture(directory), CheckpointReader(directory)
    return BlockwiseModel(architecture, weights, plan_layers(architecture, weights.entries), CPU), architecture


def _batches() -> list[torch.Tensor]:
    ids = torch.randint(3, 259, (5, 16), generator=torch.Generator().manual_seed(0))
    return list(torch.split(ids, 2))


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_logits_equal_those_of_the_stock_model(name: str, tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "source", name, dtype=torch.float32)
    model, architecture = _open(directory)

    stream = model.start(_batches())
    for index in range(len(architecture.blocks)):
        with model.loaded_block(index) as block:
            model.run_block(stream, block)
    found = torch.cat([logits for _, logits in model.logits(stream)])

    stock = getattr(transformers, name).from_pretrained(directory, dtype=torch.float32).eval()
    expected = stock(input_ids=torch.cat(_batches())).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_only_the_loaded_block_holds_memory(tmp_path: Path) -> None:
    model, architecture = _open(build_checkpoint(tmp_path / "source"))
    model.start(_batches())
    with model.loaded_block(1):
        loaded = [all(not p.is_meta for p in block.parameters()) for _, block in architecture.blocks]
    assert loaded == [False, True]
    assert all(parameter.is_meta for parameter in architecture.model.parameters())


def test_perplexity_equals_that_of_the_stock_model(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "source", dtype=torch.float32)
    model, _ = _open(directory)
    ids = torch.cat(_batches())

    found = perplexity(float(token_losses(model, TokenWindows(ids), batch_size=2).double().mean()))

    stock = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = stock(input_ids=ids).logits[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).exp()
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_a_checkpoint_that_lacks_a_tensor_of_a_block_is_refused(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "source")
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.layers.1.input_layernorm.weight"]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    model, _ = _open(directory)
    with (
        pytest.raises(CheckpointError, match=r"lacks model\.layers\.1\.input_layernorm\.weight"),
        model.loaded_block(1),
    ):
        pass


def test_a_tensor_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "source")
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    model, _ = _open(directory)
    with pytest.raises(CheckpointError, match="does not fit LlamaForCausalLM"), model.loaded_block(0):
        pass
