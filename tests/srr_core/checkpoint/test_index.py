"""What is read from a folder is what stock transformers reads from it, whatever else lies there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError
from srr_core.models.architecture import silent_loading
from worker.folder_hub import FolderHub

CONFIG = LlamaConfig(
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    vocab_size=16,
    tie_word_embeddings=False,
)
WHOLE = {
    "single": "model.safetensors",
    "leftovers": "model-00003-of-00003.safetensors",
    "variant": "model.fp16.safetensors",
    "consolidated": "consolidated.safetensors",
    "explicit": "chosen.safetensors",
}
"""Files that hold every tensor."""
PIECES = (*WHOLE, "index", "foreign", "bin")
"""What a folder may hold beside them: shards by an index, one of them by a foreign name in a folder below; a pickle."""


@pytest.fixture(scope="module")
def names() -> list[str]:
    return list(LlamaForCausalLM(CONFIG).state_dict())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.sets(st.sampled_from(PIECES), min_size=1), seed=st.integers(0, 99))
def test_the_tensors_read_are_those_that_stock_loads(
    pieces: set[str], seed: int, names: list[str], folder: Path, scratch: Path
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _build(folder, pieces, seed, names)
    try:
        ours: dict[str, Tensor] | None = dict(CheckpointReader(folder))
    except CheckpointError:
        ours = None

    with silent_loading():
        stock = _stock(folder)

    _as_a_repository(folder, scratch, None if ours is None else set(CheckpointReader(folder).entries))
    if ours is None:
        assert stock is None or "bin" in pieces  # pickles are never opened
    else:
        assert stock is not None
        assert ours.keys() == stock.keys()
        assert all(torch.equal(ours[name], tensor) for name, tensor in stock.items())


def _as_a_repository(folder: Path, scratch: Path, tensors: set[str] | None) -> None:
    """Check that the service says the same of the folder, and that a download holds what it says."""
    shutil.rmtree(scratch, ignore_errors=True)
    hub = FolderHub(scratch / "hub")
    hub.import_model(folder, "acme/base")
    model = hub.resolve("acme/base")
    assert model.has_safetensors is (tensors is not None)
    if tensors is not None:
        assert set(hub.inspect(model).tensors) == tensors
        copy = hub.download(model, scratch / "copy")
        assert {name: entry.shape for name, entry in CheckpointReader(copy).entries.items()} == {
            name: entry.shape for name, entry in CheckpointReader(folder).entries.items()
        }
        assert not list(copy.rglob("*.bin"))


def _stock(folder: Path) -> dict[str, Tensor] | None:
    try:
        model, info = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except OSError:
        return None
    assert not info["missing_keys"]
    return dict(model.state_dict())


def _build(folder: Path, pieces: set[str], seed: int, names: list[str]) -> None:
    folder.mkdir()
    config: dict[str, Any] = {**CONFIG.to_dict(), "architectures": ["LlamaForCausalLM"]}
    shapes = {name: tensor.shape for name, tensor in LlamaForCausalLM(CONFIG).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)

    def tensors(chosen: list[str]) -> dict[str, Tensor]:
        return {name: torch.randn(shapes[name], generator=generator) for name in chosen}

    def write(file: str, chosen: list[str]) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        save_file(tensors(chosen), folder / file, metadata={"format": "pt"})

    for piece in pieces & WHOLE.keys():
        write(WHOLE[piece], names)
    if pieces & {"index", "foreign"}:
        second = "below/tail.safetensors" if "foreign" in pieces else "model-00002-of-00002.safetensors"
        halves = {"model-00001-of-00002.safetensors": names[::2], second: names[1::2]}
        for file, chosen in halves.items():
            write(file, chosen)
        weight_map = {name: file for file, chosen in halves.items() for name in chosen}
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if "bin" in pieces:
        torch.save(tensors(names), folder / "pytorch_model.bin")
    if "explicit" in pieces:
        config["transformers_weights"] = "chosen.safetensors"
    (folder / "config.json").write_text(json.dumps(config))


def test_tensors_of_a_named_file_that_the_index_does_not_list_are_read_too_as_stock_does(folder: Path) -> None:
    folder.mkdir()
    save_file({"a": torch.ones(1), "b": torch.ones(2)}, folder / "x.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "x.safetensors"}}))
    assert set(CheckpointReader(folder)) == {"a", "b"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_pointer_in_the_place_of_a_small_file_is_named_too(folder: Path, name: str) -> None:
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(CheckpointError, match=rf"{name}: is a pointer of git-lfs"):
        CheckpointReader(folder)


def test_a_pointer_of_git_lfs_is_told_from_a_damaged_file(folder: Path) -> None:
    folder.mkdir()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (folder / "model.safetensors").write_text(pointer)
    with pytest.raises(CheckpointError, match=r"pointer of git-lfs.*git lfs pull"):
        CheckpointReader(folder)
