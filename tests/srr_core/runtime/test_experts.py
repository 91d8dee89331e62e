"""Experts of a mixture stay packed, and compute what transformers and PEFT compute with dense ones."""

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import AutoModelForCausalLM

from srr_core.checkpoint.artifact_names import MARKER
from srr_core.errors import CheckpointError
from srr_core.formats.artifact_files import read_configuration
from srr_core.formats.layouts import native_layout
from srr_core.recipe import IntegerSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec
from srr_core.runtime import PackedLinear, load
from srr_core.runtime.experts import PackedExperts
from tests.srr_core.exporters.artifacts import SHARD, TOKENS, build_artifact, edit_tensors, pico_moe

# PEFT 0.21 says so of every adapter on fused experts, and loads it.
pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match")

KINDS = ("qwen3-moe", "mixtral")
SPECS = (
    MXIntSpec(num_bits=3),
    IntegerSpec(num_bits=3, group_size=32),
    NormalFloatSpec(num_bits=3),
    QuIPSharpSpec(num_bits=3, coordinate_passes=0),
)
EVERY_LAYER = 8 + 2 * 4 * 3
EXPERT = "model__layers__1__block_sparse_moe__experts__2__w1"
TARGETS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def outputs(model):
    with torch.inference_mode():
        return model(TOKENS)[0]


def stock(directory):
    """The same files by transformers and PEFT alone: dense experts, dense L·R."""
    config = read_configuration(directory)
    config.quantization_config = {key: value for key, value in config.quantization_config.items() if key != MARKER}
    return AutoModelForCausalLM.from_pretrained(directory, config=config, dtype=torch.float32).float().eval()


def gradients(model):
    """Of L and R, by name, after one loss."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    model(TOKENS, labels=TOKENS).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture(scope="module", params=KINDS)
def artifact(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "a"
    return build_artifact(folder, pico_moe(request.param), MXIntSpec(num_bits=3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_every_layer_and_every_expert_is_packed(tmp_path, spec, kind):
    layout = native_layout(spec, has_fused_experts=True)
    artifact = build_artifact(tmp_path / "a", pico_moe(kind), spec, layout=layout)
    model = load(artifact.directory, dtype=torch.float32)
    assert sum(isinstance(module, PackedLinear) for module in model.modules()) == EVERY_LAYER
    assert not [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.dim() > 2]
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


def test_factors_of_experts_get_the_gradients_that_peft_gives_dense_ones(artifact):
    expected = gradients(stock(artifact.directory))
    found = gradients(load(artifact.directory, dtype=torch.float32))
    assert sum(".experts." in name for name in found) == 2 * 2 * 2
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # of peft, to whoever adds a second one
def test_a_second_adapter_is_trained_on_top_of_the_first(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    model.add_adapter(LoraConfig(r=2, target_modules=[], target_parameters=TARGETS), adapter_name="task")
    model.set_adapter(["default", "task"])
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)
    found = gradients(model)
    assert any(gradient.any() for name, gradient in found.items() if ".experts." in name and ".task." in name)


def test_without_its_adapter_an_expert_is_its_codes(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    model.disable_adapters()
    assert not torch.allclose(outputs(model), artifact.outputs, rtol=1e-3, atol=1e-3)
    model.enable_adapters()
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_an_adapter_is_saved_and_loaded_again_exactly(tmp_path, kind):
    artifact = build_artifact(tmp_path / "a", pico_moe(kind), MXIntSpec(num_bits=3), rank=0)
    model = load(artifact.directory, dtype=torch.float32)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(outputs(load(tmp_path / "again", dtype=torch.float32)), outputs(model))


def test_a_trained_adapter_is_saved_and_loaded_again(artifact, tmp_path):
    model = load(artifact.directory, dtype=torch.float32)
    factor = next(parameter for name, parameter in model.named_parameters() if ".experts." in name)
    with torch.no_grad():
        factor.mul_(2)
    model.save_pretrained(tmp_path / "trained")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "trained", dtype=torch.float32).eval()
    assert torch.equal(outputs(again), outputs(model))


def test_a_cast_model_keeps_its_codes_and_generates(artifact):
    model = load(artifact.directory, dtype=torch.bfloat16)
    assert outputs(model).dtype == torch.bfloat16
    assert model.generate(TOKENS[:1, :5], max_new_tokens=4, do_sample=False, pad_token_id=0).shape == (1, 9)
    # Embeddings and norms were rounded, the codes were not.
    torch.testing.assert_close(outputs(model.to(torch.float32)), artifact.outputs, rtol=0, atol=5e-3)


@pytest.mark.parametrize("device", ["auto", {"": "cpu"}], ids=["auto", "map"])
def test_placement_on_a_device_changes_nothing(artifact, device):
    model = load(artifact.directory, dtype=torch.float32, device=device)
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


def test_merging_the_correction_into_packed_experts_is_refused(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    wrapper = next(module for name, module in model.named_modules() if name.endswith(".experts"))
    with pytest.raises(TypeError, match="cannot be merged into them in memory"):
        wrapper.merge()


def test_an_expert_that_is_missing_is_named(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_moe("mixtral"), MXIntSpec(num_bits=3))

    edit_tensors(artifact.directory / SHARD, **{f"{EXPERT}__weight_packed": None})
    with pytest.raises(CheckpointError, match=r"experts\.2\.w1"):
        load(artifact.directory)


def test_experts_of_another_kind_are_refused():
    dense = nn.Module()
    dense.gate_up_proj = nn.Parameter(torch.empty(4, 2, 2, device="meta"))
    dense.down_proj = nn.Parameter(torch.empty(4, 2, 1, device="meta"))
    dense.has_bias = True
    with pytest.raises(CheckpointError, match="the experts of Module are more than gate, up and down"):
        PackedExperts(dense, ("w1", "w3", "w2"), lambda inputs, outputs: PackedLinear)
