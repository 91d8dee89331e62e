"""The files that are a model's weights, told from names alone."""

import pytest

from srr_core.checkpoint.weight_files import INDEX_NAME, SINGLE_NAME, first_file, named_files
from srr_core.errors import CheckpointError


def test_the_single_file_comes_before_the_index() -> None:
    assert first_file([INDEX_NAME, SINGLE_NAME, "model-00001-of-00002.safetensors"]) == SINGLE_NAME
    assert first_file([INDEX_NAME, "model-00001-of-00002.safetensors"]) == INDEX_NAME


def test_the_file_that_the_configuration_names_comes_first() -> None:
    names = [SINGLE_NAME, "other.safetensors", "sub/other.safetensors.index.json"]
    assert first_file(names, {"transformers_weights": "other.safetensors"}) == "other.safetensors"
    assert first_file(names, {"transformers_weights": names[2]}) == names[2]


@pytest.mark.parametrize("value", ["../x.safetensors", "/x.safetensors", "x.bin", 3, "missing.safetensors"])
def test_a_configuration_that_leads_elsewhere_is_refused(value: object) -> None:
    with pytest.raises(CheckpointError, match="transformers_weights"):
        first_file([SINGLE_NAME], {"transformers_weights": value})


def test_an_adapter_beside_the_weights_is_refused_unless_it_belongs_to_them() -> None:
    with pytest.raises(CheckpointError, match=r"adapter_config\.json lies beside the weights.*merge"):
        first_file([SINGLE_NAME, "adapter_config.json"])
    assert first_file([SINGLE_NAME, "adapter_config.json"], may_have_adapter=True) == SINGLE_NAME


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("model.fp16.safetensors", "a variant"),
        ("model.fp16.safetensors.index.json", "a variant"),
        ("model.safetensors.index.fp16.json", "a variant"),
        ("fp16/model.safetensors", "in a folder below, where stock loaders look only if an index names it"),
        ("adapter_model.safetensors", "an adapter"),
        ("pytorch_model.bin", "a pickle, and only safetensors checkpoints are read"),
        ("model-q4.gguf", "GGUF"),
        ("consolidated.safetensors", "of another library"),
        ("readme.md", "no weights at all"),
    ],
)
def test_what_is_there_in_place_of_weights_is_named(name: str, what: str) -> None:
    with pytest.raises(CheckpointError, match=what):
        first_file([name, "config.json"])


def test_an_index_names_its_files_whatever_they_are_called() -> None:
    index = {"weight_map": {"a": "weights/tail.safetensors", "b": "mtp.safetensors", "c": "mtp.safetensors"}}
    assert named_files(INDEX_NAME, index) == ("mtp.safetensors", "weights/tail.safetensors")


@pytest.mark.parametrize(
    ("weight_map", "reason"),
    [
        (None, "no weight_map"),
        ({"a": 1}, "no weight_map"),
        ({"a": "../x.safetensors"}, "not a safetensors file of this folder"),
        ({"a": "/etc/x.safetensors"}, "not a safetensors file of this folder"),
        ({"a": "x.bin"}, "not a safetensors file of this folder"),
        ({"a": "y.safetensors"}, "names y.safetensors, which is missing"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(weight_map: object, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        named_files(INDEX_NAME, {"weight_map": weight_map}, ["x.safetensors"])
