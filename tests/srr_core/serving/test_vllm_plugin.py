"""The plugin against vLLM's interfaces: found, claiming our artifacts and no others, and adding L·R in every layer."""

import json
import logging
import pickle
import shutil
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from srr_core.checkpoint.artifact_names import factor_names
from srr_core.formats.artifact import open_artifact
from srr_core.recipe import MXIntSpec
from srr_core.serving import vllm_plugin
from tests.srr_core.exporters.artifacts import PicoArtifact, build_artifact, pico_llama, pico_moe
from tests.srr_core.serving import vllm_stand_in
from tests.srr_core.serving.vllm_stand_in import LinearBase, PEFTHelper, RoutedExperts

NAME = "srr-compressed-tensors"
FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
QUERIES, KEYS, WIDTH, INNER = 64, 32, 64, 96
ATTENTION, MLP = "model.layers.1.self_attn", "model.layers.1.mlp"


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_stand_in.install(monkeypatch)
    vllm_plugin.register()


@pytest.fixture
def artifact(tmp_path: Path) -> PicoArtifact:
    return build_artifact(tmp_path / "artifact", pico_llama(), MXIntSpec(num_bits=4, block_size=32))


def _stated(folder: Path) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads((folder / "config.json").read_text())["quantization_config"]
    return stated


def _config(model: str, stated: dict[str, Any], revision: str | None = None) -> Any:
    config: Any = vllm_stand_in.CONFIGS[NAME]
    made = config.from_config(stated)
    made.maybe_update_config(model, revision=revision)
    made.packed_modules_mapping = FUSED
    return made


def _layer(config: Any, prefix: str, inputs: int, outputs: list[int], q: list[Tensor], **options: Any) -> LinearBase:
    """A layer as vLLM builds and fills it; `q` holds its weights on this process."""
    layer = LinearBase(inputs, outputs, config, prefix, **options)
    layer.weight.data.copy_(torch.cat(q))
    layer.quant_method.process_weights_after_loading(layer)
    return layer


def _read(folder: Path, module: str) -> tuple[Tensor, Tensor, Tensor]:
    layer = open_artifact(folder).read_layer(module)
    assert layer.left is not None
    assert layer.right is not None
    return layer.quantized.dequantize(), layer.left.float(), layer.right.float()


def _inputs(width: int) -> Tensor:
    return torch.randn(7, width, generator=torch.Generator().manual_seed(0))


def _expected(folder: Path, module: str, x: Tensor) -> Tensor:
    q, left, right = _read(folder, module)
    return linear(x, q) + linear(linear(x, right), left)


def test_the_distribution_declares_the_entry_point_that_vllm_loads() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    module, _, function = project["entry-points"]["vllm.general_plugins"]["srr"].partition(":")
    assert getattr(import_module(module), function) is vllm_plugin.register


def test_another_vllm_is_left_as_it_is_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vllm_stand_in.install(monkeypatch)
    monkeypatch.delattr(sys.modules["vllm.lora.peft_helper"], "PEFTHelper")
    with caplog.at_level(logging.WARNING):
        vllm_plugin.register()
    assert vllm_stand_in.QUANTIZATION_METHODS == ["compressed-tensors"]
    assert "served as Q alone" in caplog.text


@pytest.mark.usefixtures("vllm")
def test_registering_twice_is_registering_once() -> None:
    vllm_plugin.register()
    assert vllm_stand_in.QUANTIZATION_METHODS == ["compressed-tensors", NAME]
    assert "LowRankLinearMethod" in vllm_stand_in.WEIGHT_LOADER_V2_SUPPORTED


@pytest.mark.parametrize(
    ("changes", "user", "claimed"),
    [
        ({}, None, NAME),
        ({}, NAME, NAME),
        ({}, "compressed-tensors", None),
        ({"srr": None}, None, None),
        ({"srr": {"version": 1, "rank": 0}}, None, None),
        ({"srr": {"version": 2, "rank": 4}}, None, None),
        ({"quant_method": "gptq"}, None, None),
    ],
    ids=["ours", "by-name", "asked-for-q", "a-stranger", "rank-0", "later-version", "other-method"],
)
@pytest.mark.usefixtures("vllm")
def test_only_our_artifacts_with_a_correction_are_claimed(
    changes: dict[str, Any], user: str | None, claimed: str | None, artifact: PicoArtifact
) -> None:
    config: Any = vllm_stand_in.CONFIGS[NAME]
    stated = {**_stated(artifact.directory), **changes}
    assert config.override_quantization_method(stated, user, hf_config=None) == claimed


@pytest.mark.usefixtures("vllm")
def test_fused_layers_give_what_our_layers_give(artifact: PicoArtifact) -> None:
    config = _config(str(artifact.directory), _stated(artifact.directory))
    x = _inputs(WIDTH)
    for owner, fused, outputs in (
        (ATTENTION, "qkv_proj", [QUERIES, KEYS, KEYS]),
        (MLP, "gate_up_proj", [INNER, INNER]),
    ):
        modules = [f"{owner}.{part}" for part in FUSED[fused]]
        q = [_read(artifact.directory, module)[0] for module in modules]
        layer = _layer(config, f"{owner}.{fused}", WIDTH, outputs, q)
        wanted = torch.cat([_expected(artifact.directory, module, x) for module in modules], dim=1)
        torch.testing.assert_close(layer(x), wanted)


@pytest.mark.usefixtures("vllm")
def test_the_processes_of_a_layer_cut_along_its_inputs_sum_to_the_whole(artifact: PicoArtifact) -> None:
    config = _config(str(artifact.directory), _stated(artifact.directory))
    module = f"{MLP}.down_proj"
    x, q = _inputs(INNER), _read(artifact.directory, module)[0]
    shares = [
        _layer(config, module, INNER, [WIDTH], [part], tp_rank=rank, tp_size=2, cuts_inputs=True)(
            x[:, rank * 48 :][:, :48]
        )
        for rank, part in enumerate(q.split(48, dim=1))
    ]
    torch.testing.assert_close(sum(shares), _expected(artifact.directory, module, x))


@pytest.mark.usefixtures("vllm")
def test_a_configuration_from_another_process_finds_the_same_factors(artifact: PicoArtifact) -> None:
    sent = pickle.loads(pickle.dumps(_config(str(artifact.directory), _stated(artifact.directory))))
    module = f"{ATTENTION}.o_proj"
    x = _inputs(WIDTH)
    layer = _layer(sent, module, WIDTH, [WIDTH], [_read(artifact.directory, module)[0]])
    torch.testing.assert_close(layer(x), _expected(artifact.directory, module, x))


@pytest.mark.usefixtures("vllm")
def test_a_repository_is_read_at_the_revision_that_is_served(
    artifact: PicoArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(artifact.directory, tmp_path / "org--model" / "abc")
    config = _config("org/model", _stated(artifact.directory), revision="abc")
    assert set(factor_names(f"{ATTENTION}.o_proj")) <= set(config.adapter())


@pytest.mark.usefixtures("vllm")
def test_renamed_modules_are_found(artifact: PicoArtifact) -> None:
    class Mapper:
        def apply_list(self, values: list[str]) -> list[str]:
            return [value.replace("model.", "language_model.model.", 1) for value in values]

    config = _config(str(artifact.directory), _stated(artifact.directory))
    config.apply_vllm_mapper(Mapper())
    module = f"{ATTENTION}.o_proj"
    x = _inputs(WIDTH)
    layer = _layer(config, f"language_model.{module}", WIDTH, [WIDTH], [_read(artifact.directory, module)[0]])
    torch.testing.assert_close(layer(x), _expected(artifact.directory, module, x))


@pytest.mark.usefixtures("vllm")
def test_names_that_stock_loaders_change_in_between_are_found(artifact: PicoArtifact) -> None:
    stated = _stated(artifact.directory)
    module = f"{ATTENTION}.o_proj"
    stated["srr"] |= {"paths": {"decoder.1.out": module}}
    config = _config(str(artifact.directory), stated)
    x = _inputs(WIDTH)
    layer = _layer(config, "decoder.1.out", WIDTH, [WIDTH], [_read(artifact.directory, module)[0]])
    torch.testing.assert_close(layer(x), _expected(artifact.directory, module, x))


@pytest.mark.usefixtures("vllm")
def test_layers_that_have_no_correction_are_vllms_own(artifact: PicoArtifact) -> None:
    stated = _stated(artifact.directory)
    stated["srr"] |= {"without_low_rank": ["model.layers.7.mlp.down_proj"]}
    config = _config(str(artifact.directory), stated)
    layer = LinearBase(INNER, [WIDTH], config, "model.layers.7.mlp.down_proj")
    assert type(layer.quant_method) is vllm_stand_in.CompressedTensorsLinearMethod


@pytest.mark.usefixtures("vllm")
def test_a_layer_that_stays_dense_is_vllms_own(artifact: PicoArtifact) -> None:
    config = _config(str(artifact.directory), _stated(artifact.directory))
    layer = LinearBase(WIDTH, [96], config, "lm_head")
    assert type(layer.quant_method) is vllm_stand_in.UnquantizedLinearMethod


@pytest.mark.usefixtures("vllm")
def test_a_quantized_layer_without_a_correction_stops_the_server(artifact: PicoArtifact) -> None:
    config = _config(str(artifact.directory), _stated(artifact.directory))
    with pytest.raises(ValueError, match=r"no L·R for model\.layers\.7\.mlp\.down_proj.*--enable-lora"):
        LinearBase(INNER, [WIDTH], config, "model.layers.7.mlp.down_proj")


@pytest.mark.usefixtures("vllm")
def test_experts_stop_the_server_with_the_way_that_works(tmp_path: Path) -> None:
    built = build_artifact(tmp_path / "mixture", pico_moe("qwen"), MXIntSpec(num_bits=4, block_size=32))
    config = _config(str(built.directory), _stated(built.directory))
    with pytest.raises(NotImplementedError, match=r"experts.*--quantization compressed-tensors --enable-lora"):
        config.get_quant_method(RoutedExperts(), "model.layers.0.mlp.experts")


@pytest.mark.usefixtures("vllm")
def test_the_own_adapter_is_refused_as_a_lora_and_another_one_is_taken(artifact: PicoArtifact, tmp_path: Path) -> None:
    helper: Any = sys.modules["vllm.lora.peft_helper"].PEFTHelper  # type: ignore[attr-defined]
    assert isinstance(helper.from_local_dir(str(artifact.directory), 64), PEFTHelper)
    config = _config(str(artifact.directory), _stated(artifact.directory))
    LinearBase(WIDTH, [WIDTH], config, f"{ATTENTION}.o_proj")
    with pytest.raises(ValueError, match="put into the layers already"):
        helper.from_local_dir(str(artifact.directory), 64)
    (tmp_path / "tuned").mkdir()
    shutil.copyfile(artifact.directory / "adapter_config.json", tmp_path / "tuned" / "adapter_config.json")
    assert isinstance(helper.from_local_dir(str(tmp_path / "tuned"), 64), PEFTHelper)
