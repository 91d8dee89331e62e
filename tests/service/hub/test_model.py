"""Which files of a source are fetched, and which models are refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.hub.errors import RemoteCodeError, UnsafeModelError
from service.hub.model import MAX_SUPPORT_FILE_BYTES, RepoFile, ResolvedModel, check_compressible, is_allowed


def _model(*paths: str, **changes: object) -> ResolvedModel:
    files = tuple(RepoFile(path, 10) for path in paths)
    return ResolvedModel("acme/base", "0" * 40, private=False, gated=False, files=files, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("paths", "weights"),
    [
        (("model.safetensors",), ("model.safetensors",)),
        (("consolidated.safetensors", "model.safetensors"), ("model.safetensors",)),
        (("model.safetensors", "model.fp16.safetensors"), ("model.safetensors",)),
        (
            ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "consolidated.safetensors"),
            ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ),
        (("weights.safetensors",), ("weights.safetensors",)),
        (("adapter_model.safetensors",), ()),
        (("onnx/model.safetensors", "model.bin"), ()),
    ],
)
def test_the_weights_are_those_stock_loaders_read(paths: tuple[str, ...], weights: tuple[str, ...]) -> None:
    model = _model(*paths, "config.json")

    assert tuple(file.path for file in model.weights) == weights
    assert model.has_safetensors is bool(weights)
    assert {file.path for file in model.downloads} == {*weights, "config.json"}
    assert model.weight_bytes == 10 * len(weights)


def test_an_index_comes_with_its_shards_and_not_with_a_single_file() -> None:
    index = "model.safetensors.index.json"
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")

    assert index in {file.path for file in _model(*shards, index).downloads}
    assert index not in {file.path for file in _model(*shards, index, "model.safetensors").downloads}


@pytest.mark.parametrize(
    "path",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "spiece.model",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "LICENSE",
        "LICENSE.md",
        "NOTICE.txt",
        "USE_POLICY.md",
        "README.md",
    ],
)
def test_what_a_model_needs_is_allowed(path: str) -> None:
    assert is_allowed(path)


@pytest.mark.parametrize(
    "path",
    [
        "modeling_custom.py",
        "tokenizer_custom.py",
        "tokenizer.pkl",
        "LICENSE.py",
        "pytorch_model.bin",
        "model.gguf",
        "sub/config.json",
        "../config.json",
        "/config.json",
        "..\\config.json",
        ".safetensors",
        "-rf.safetensors",
        "",
    ],
)
def test_anything_else_is_never_fetched(path: str) -> None:
    assert not is_allowed(path)


@given(st.text(max_size=40))
def test_an_allowed_name_stays_in_its_folder(path: str) -> None:
    if is_allowed(path):
        assert "/" not in path
        assert "\\" not in path
        assert not path.startswith(".")


def test_a_tokenizer_as_large_as_a_model_is_refused() -> None:
    model = _model("model.safetensors")
    huge = RepoFile("tokenizer.json", MAX_SUPPORT_FILE_BYTES + 1)

    check_compressible(model)
    with pytest.raises(UnsafeModelError, match=r"tokenizer\.json"):
        check_compressible(replace(model, files=(*model.files, huge)))


def test_code_of_a_repository_is_refused_only_where_transformers_has_no_class() -> None:
    code = {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}

    check_compressible(_model("model.safetensors", config={"architectures": ["Phi3ForCausalLM"], "auto_map": code}))
    for architectures in (["InternLM2ForCausalLM"], [], None):
        with pytest.raises(RemoteCodeError, match="has no class for it"):
            check_compressible(_model("model.safetensors", config={"architectures": architectures, "auto_map": code}))


def test_weights_may_be_as_large_as_they_like() -> None:
    shard = RepoFile("model.safetensors", 50 * 10**9)

    check_compressible(replace(_model(), files=(shard,)))


def test_architectures_of_a_strange_configuration_are_none() -> None:
    assert _model(config={"architectures": "LlamaForCausalLM"}).architectures == ()
    assert _model(config=None).architectures == ()
    assert _model(config={"architectures": ["LlamaForCausalLM"]}).architectures == ("LlamaForCausalLM",)
