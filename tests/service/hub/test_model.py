"""Which files of a source are fetched, and which models are refused."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.hub.errors import HubError, InvalidWeightsError, NoSafetensorsError, RemoteCodeError, UnsafeModelError
from service.hub.model import MAX_SUPPORT_FILE_BYTES, RepoFile, ResolvedModel, check_compressible
from srr_core.checkpoint.carried_files import RUNS


def _model(*paths: str, **changes: object) -> ResolvedModel:
    files = tuple(RepoFile(path, 10) for path in paths)
    return ResolvedModel("acme/base", "0" * 40, private=False, gated=False, files=files, **changes)  # type: ignore[arg-type]


INDEX = "model.safetensors.index.json"


def _index(*files: str) -> dict[str, object]:
    return {"weight_map": {f"tensor.{number}": file for number, file in enumerate(files)}}


@pytest.mark.parametrize(
    ("paths", "index", "weights"),
    [
        (("model.safetensors",), None, ("model.safetensors",)),
        (("consolidated.safetensors", "model.safetensors"), None, ("model.safetensors",)),
        (("model.safetensors", "model.fp16.safetensors"), None, ("model.safetensors",)),
        (("model.safetensors", INDEX, "model-1-of-2.safetensors"), _index("model-1-of-2.safetensors"), None),
        (
            (INDEX, "model-1-of-2.safetensors", "tail.safetensors", "left-over.safetensors"),
            _index("tail.safetensors", "model-1-of-2.safetensors"),
            ("model-1-of-2.safetensors", "tail.safetensors"),
        ),
        (
            (INDEX, "weights/model-1.safetensors"),
            _index("weights/model-1.safetensors"),
            ("weights/model-1.safetensors",),
        ),
    ],
)
def test_the_weights_are_those_stock_loaders_read(
    paths: tuple[str, ...], index: dict[str, object] | None, weights: tuple[str, ...] | None
) -> None:
    model = _model(*paths, "config.json", index=index)
    expected = weights or ("model.safetensors",)

    assert tuple(file.path for file in model.weights) == expected
    assert (model.has_safetensors, model.weights_problem) == (True, "")
    with_index = {INDEX} if INDEX in paths and weights else set()
    assert {file.path for file in model.downloads} == {*expected, "config.json", *with_index}
    assert model.weight_bytes == 10 * len(expected)


@pytest.mark.parametrize(
    ("paths", "index", "error", "reason"),
    [
        (("weights.safetensors",), None, NoSafetensorsError, "of another library"),
        (("model-00001-of-00002.safetensors",), None, NoSafetensorsError, "model-00001-of-00002.safetensors"),
        (("adapter_model.safetensors", "adapter_config.json"), None, NoSafetensorsError, "no model without its base"),
        (("model.fp16.safetensors",), None, NoSafetensorsError, "a variant"),
        (("onnx/model.safetensors", "model.bin"), None, NoSafetensorsError, "in a folder below"),
        (("model.safetensors", "adapter_config.json"), None, InvalidWeightsError, "lies beside the weights"),
        ((INDEX,), None, InvalidWeightsError, "holds no JSON object"),
        ((INDEX,), _index("tail.safetensors"), InvalidWeightsError, "names tail.safetensors, which is missing"),
        ((INDEX,), _index("../tail.safetensors"), InvalidWeightsError, "not a safetensors file of this folder"),
        ((INDEX, "a.bin"), _index("a.bin"), InvalidWeightsError, "not a safetensors file"),
    ],
)
def test_a_model_that_stock_loaders_do_not_read_is_refused_with_the_reason(
    paths: tuple[str, ...], index: dict[str, object] | None, error: type[HubError], reason: str
) -> None:
    model = _model(*paths, index=index)

    assert not model.has_safetensors
    with pytest.raises(error, match=reason):
        check_compressible(model)


def test_the_adapter_of_an_artifact_of_ours_is_no_obstacle() -> None:
    config = {"quantization_config": {"quant_method": "compressed-tensors", "srr": {}}}
    assert _model("model.safetensors", "adapter_config.json", config=config).has_safetensors


def test_what_belongs_to_a_model_is_fetched_and_anything_else_is_not() -> None:
    wanted = {
        *("config.json", "model.safetensors", "tokenizer.json", "bpe.codes", "spiece.model", "chat_template.jinja"),
        *("additional_chat_templates/rag.jinja", "modules.json", "1_Pooling/config.json", "LICENSE.md", "README.md"),
        *("USE_POLICY.md", "video_preprocessor_config.json", "generation_config.json"),
    }
    others = {
        *("modeling_custom.py", "tokenizer_custom.py", "tokenizer.pkl", "LICENSE.py", "pytorch_model.bin"),
        *("model.gguf", "sub/config.json", "../config.json", "/config.json", "..\\config.json", ".safetensors"),
        *("-rf.safetensors", "", "2_Dense/config.json", "1_Pooling/run.py"),
    }
    model = _model(*wanted, *others, modules=[{"path": "1_Pooling", "type": "Pooling"}])

    assert {file.path for file in model.downloads} == wanted


@given(st.lists(st.text(max_size=40)))
def test_nothing_that_is_fetched_leaves_its_folder_or_is_code(paths: list[str]) -> None:
    for file in _model(*paths).downloads:
        assert not PurePosixPath(file.path).is_absolute()
        assert ".." not in PurePosixPath(file.path).parts
        assert not file.path.endswith(RUNS)


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
