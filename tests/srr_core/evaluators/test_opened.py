"""A folder is opened as what it is: source or artifact, block by block or whole, with the same outputs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from srr_core.errors import CheckpointError, UnsupportedModelError
from srr_core.evaluators.opened import OpenedModel
from srr_core.pipeline import compress
from srr_core.recipe import named_recipe, override
from tests.pico import build_checkpoint, write_text

CPU = torch.device("cpu")
IDS = torch.randint(3, 259, (2, 16), generator=torch.Generator().manual_seed(0))


def _artifact(tmp_path: Path, architecture: str, recipe: str) -> Path:
    chosen = override(
        named_recipe(recipe),
        {"rank": 4, "calibration": {"num_sequences": 4, "sequence_length": 16}, "evaluation": None},
    )
    source = build_checkpoint(tmp_path / "source", architecture, dtype=torch.float32)
    text = write_text(tmp_path / "text.txt")
    compress(source, chosen, tmp_path / "artifact", calibration_text=text)
    return tmp_path / "artifact"


def _blockwise_logits(opened: OpenedModel) -> torch.Tensor:
    model = opened.blockwise(CPU)
    stream = model.start([IDS])
    for index in range(model.num_blocks):
        with model.loaded_block(index) as block:
            model.run_block(stream, block)
    ((_, logits),) = model.logits(stream)
    return logits


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match")  # of peft, about experts
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel", "MixtralForCausalLM"])
@torch.no_grad()
def test_an_artifact_gives_the_same_block_by_block_and_whole(architecture: str, tmp_path: Path) -> None:
    opened = OpenedModel(_artifact(tmp_path, architecture, "srr"))
    assert opened.is_artifact
    whole = opened.load(CPU, dtype=torch.float32)(input_ids=IDS).logits
    torch.testing.assert_close(_blockwise_logits(opened), whole, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_source_gives_the_same_block_by_block_and_whole(tmp_path: Path) -> None:
    opened = OpenedModel(build_checkpoint(tmp_path / "source"))
    assert not opened.is_artifact
    whole = opened.load(CPU, dtype=torch.float32)(input_ids=IDS).logits
    torch.testing.assert_close(_blockwise_logits(opened), whole, rtol=1e-4, atol=1e-4)


def test_a_source_is_loaded_in_its_own_precision(tmp_path: Path) -> None:
    assert OpenedModel(build_checkpoint(tmp_path / "source")).load(CPU).dtype == torch.bfloat16


def test_the_digest_follows_the_files_and_a_commit_stands_for_itself(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "source")
    before = OpenedModel(directory).digest
    assert OpenedModel(directory).digest == before
    build_checkpoint(tmp_path / "source", seed=3)
    assert OpenedModel(directory).digest != before
    assert OpenedModel(directory, revision="abc").digest == "abc"


def _foreign(config: dict[str, Any]) -> None:
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}


def _unknown(config: dict[str, Any]) -> None:
    config["architectures"] = ["NoSuchModel"]


@pytest.mark.parametrize("change", [_foreign, _unknown])
def test_a_model_of_another_kind_is_refused(change: Any, tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "source")
    config = json.loads((directory / "config.json").read_text())
    change(config)
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError):
        OpenedModel(directory)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        OpenedModel(tmp_path)


def test_a_damaged_weight_file_is_named(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "broken")
    (directory / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        OpenedModel(directory).load(CPU)
