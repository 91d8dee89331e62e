"""A loaded model leaves L·R to the packed layer exactly where its path takes it in one pass, and to PEFT elsewhere."""

import copy
from typing import ClassVar

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from transformers import AutoModelForCausalLM

from srr_core.exporters.export import export
from srr_core.kernels.dispatch import PATHS
from srr_core.kernels.tiled_path import TiledPath
from srr_core.recipe import AdapterSpec, MXIntSpec
from srr_core.runtime import load
from srr_core.runtime.fused_adapter import FusedLinear
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, pico_llama

LAYERS = 14


class FusingPath(TiledPath):
    """The tiled path, saying that it fuses, and counting what it is asked for."""

    name = "fusing"
    fuses_low_rank = True
    num_corrected: ClassVar[int] = 0
    num_plain: ClassVar[int] = 0

    def multiply(self, buffers, x):
        FusingPath.num_plain += 1
        return super().multiply(buffers, x)

    def multiply_corrected(self, buffers, x, shared, left):
        FusingPath.num_corrected += 1
        return (super().multiply(buffers, x) + shared @ left.t()).to(x.dtype)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build_artifact(tmp_path_factory.mktemp("artifact") / "a", pico_llama(), MXIntSpec(num_bits=3))


@pytest.fixture
def fusing(monkeypatch):
    monkeypatch.setattr("srr_core.kernels.dispatch.PATHS", (FusingPath, *PATHS))


def counted_outputs(model, *, has_gradients=False):
    """Return the outputs, and how many layers were multiplied with and without L·R."""
    FusingPath.num_corrected = FusingPath.num_plain = 0
    with torch.set_grad_enabled(has_gradients):
        outputs = model(TOKENS)[0]
    return outputs.detach(), FusingPath.num_corrected, FusingPath.num_plain


def through_load(directory, scratch):
    return load(directory, dtype=torch.float32)


def through_transformers(directory, scratch):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def through_peft(directory, scratch):
    export(directory, scratch / "s", AdapterSpec())
    base = AutoModelForCausalLM.from_pretrained(scratch / "s" / "base", dtype=torch.float32)
    return PeftModel.from_pretrained(base, scratch / "s" / "adapter").eval()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft 0.21 asks for it
@pytest.mark.parametrize("route", [through_load, through_transformers, through_peft])
def test_every_layer_adds_its_correction_in_its_own_pass(artifact, fusing, tmp_path, route):
    outputs, num_corrected, num_plain = counted_outputs(route(artifact.directory, tmp_path))
    assert (num_corrected, num_plain) == (LAYERS, 0)
    torch.testing.assert_close(outputs, artifact.outputs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor_dtype", [torch.bfloat16, torch.float32])
def test_bfloat16_model_fuses_factors_of_either_width(artifact, fusing, factor_dtype):
    model = load(artifact.directory, dtype=torch.bfloat16)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(factor_dtype) if ".lora_" in name else parameter.data
    outputs, num_corrected, _ = counted_outputs(model)
    assert num_corrected == LAYERS
    assert outputs.dtype == torch.bfloat16
    assert float((outputs.float() - artifact.outputs).norm() / artifact.outputs.norm()) < 0.02


def test_scaling_of_the_adapter_is_kept(artifact, fusing):
    model = load(artifact.directory, dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, FusedLinear):
            module.scale_layer(0.5)
    fused, num_corrected, _ = counted_outputs(model)
    by_peft, _, num_plain = counted_outputs(model, has_gradients=True)
    assert (num_corrected, num_plain) == (LAYERS, LAYERS)
    torch.testing.assert_close(fused, by_peft, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(fused, artifact.outputs, rtol=1e-2, atol=1e-2)


def second_adapter(model, **options):
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=2, init_lora_weights=False, target_modules=modules, task_type="CAUSAL_LM", **options)
    model.add_adapter(config, adapter_name="task")


def disabled(model):
    model.disable_adapters()


def with_two_adapters(model):
    second_adapter(model)
    model.set_adapter(["default", "task"])


def with_another_variant(model):
    second_adapter(model, alora_invocation_tokens=[5])
    model.set_adapter("task")


def with_a_bias(model):
    second_adapter(model, lora_bias=True)
    model.set_adapter("task")


def with_dropout(model):
    second_adapter(model, lora_dropout=0.5)
    model.set_adapter("task")


OTHERS = [disabled, with_two_adapters, with_another_variant, with_a_bias, with_dropout]


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # of peft, to whoever adds a second one
@pytest.mark.parametrize("change", OTHERS)
def test_what_is_not_one_plain_adapter_is_left_to_peft(artifact, fusing, monkeypatch, change):
    torch.manual_seed(0)
    model = load(artifact.directory, dtype=torch.float32)
    change(model)
    model.eval()
    outputs, num_corrected, num_plain = counted_outputs(model)
    monkeypatch.setattr(FusedLinear, "forward", lora.Linear.forward)
    by_peft, _, _ = counted_outputs(model)
    assert (num_corrected, num_plain) == (0, LAYERS)
    assert torch.equal(outputs, by_peft)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_one_plain_adapter_of_several_is_fused(artifact, fusing):
    torch.manual_seed(0)
    model = load(artifact.directory, dtype=torch.float32)
    second_adapter(model)
    model.set_adapter("task")
    fused, num_corrected, _ = counted_outputs(model)
    by_peft, _, num_plain = counted_outputs(model, has_gradients=True)
    assert (num_corrected, num_plain) == (LAYERS, LAYERS)
    torch.testing.assert_close(fused, by_peft, rtol=1e-5, atol=1e-5)


def layer_in_training(artifact, dtype):
    """Return one corrected layer of a model in training, and an input of it."""
    model = load(artifact.directory, trainable=True, dtype=dtype)
    module = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    module.scale_layer(0.5)
    x = torch.randn(2, 5, module.base_layer.in_features, generator=torch.Generator().manual_seed(1))
    return module, x.to(dtype).requires_grad_()


def gradients_of(module, x):
    y = module(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
    factors = [module.lora_A["default"].weight, module.lora_B["default"].weight]
    found = [y.detach(), *(tensor.grad.clone() for tensor in (x, *factors))]
    for tensor in (x, *factors):
        tensor.grad = None
    return found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_outputs_and_gradients_in_training_have_the_bits_of_peft(artifact, monkeypatch, dtype):
    module, x = layer_in_training(artifact, dtype)
    assert module.base_layer.bias is not None
    ours = gradients_of(module, x)
    monkeypatch.setattr(FusedLinear, "forward", lora.Linear.forward)
    by_peft = gradients_of(module, x)
    assert all(torch.equal(one, other) for one, other in zip(ours, by_peft, strict=True))


def test_a_layer_in_training_keeps_its_input_once_and_in_its_own_type(artifact):
    module, x = layer_in_training(artifact, torch.bfloat16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        module(x)
    known = {tensor.data_ptr() for tensor in (x, module.lora_A["default"].weight, module.lora_B["default"].weight)}
    others = [tuple(tensor.shape) for tensor in kept if tensor.data_ptr() not in known]
    rank = module.lora_A["default"].weight.shape[0]
    assert x.data_ptr() in {tensor.data_ptr() for tensor in kept}
    assert others == [(10, rank)]


def test_autocast_is_left_to_peft(artifact, monkeypatch):
    module, x = layer_in_training(artifact, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = gradients_of(module, x)
        monkeypatch.setattr(FusedLinear, "forward", lora.Linear.forward)
        by_peft = gradients_of(module, x)
    assert all(torch.equal(one, other) for one, other in zip(ours, by_peft, strict=True))


def test_training_does_not_fuse_and_moves_the_factors(artifact, fusing):
    model = load(artifact.directory, dtype=torch.float32).train()
    factor = model.get_parameter("model.layers.0.self_attn.q_proj.lora_B.default.weight").requires_grad_(True)
    _, num_corrected, num_plain = counted_outputs(model, has_gradients=True)
    assert (num_corrected, num_plain) == (0, LAYERS)
    model(TOKENS, labels=TOKENS).loss.backward()
    assert factor.grad.any()


def test_saved_adapter_of_a_fused_model_is_loaded_again(artifact, fusing, tmp_path):
    model = load(artifact.directory, dtype=torch.float32)
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.up_proj.lora_B.default.weight").mul_(2)
    model.save_pretrained(tmp_path / "trained")
    again, num_corrected, _ = counted_outputs(through_transformers(tmp_path / "trained", tmp_path))
    assert num_corrected == LAYERS
    assert torch.equal(again, counted_outputs(model)[0])


def test_copy_of_a_fused_model_computes_the_same(artifact, fusing):
    model = load(artifact.directory, dtype=torch.float32)
    outputs, num_corrected, _ = counted_outputs(copy.deepcopy(model))
    assert num_corrected == LAYERS
    assert torch.equal(outputs, counted_outputs(model)[0])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft 0.21 asks for it
def test_dense_layers_get_the_layer_of_peft_itself(artifact):
    load(artifact.directory, dtype=torch.float32)
    dense = get_peft_model(pico_llama(), LoraConfig(target_modules=["q_proj"]))
    assert type(dense.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")) is lora.Linear


@pytest.mark.filterwarnings("ignore:(You are trying to modify|Already found|`is_gradient_checkpointing`)")
def test_a_fresh_adapter_of_the_same_name_does_not_overwrite_the_correction(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"'default' is the model's L·R .*set_adapter\(\['default', 'tuned'\]\)"):
        get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    torch.testing.assert_close(counted_outputs(model)[0], artifact.outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:(You are trying to modify|Already found|`is_gradient_checkpointing`)")
def test_a_model_whose_correction_is_switched_off_says_so(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    with pytest.warns(UserWarning, match=r"L·R \('default'\) is not active beside 'new'"):
        get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]), adapter_name="new")


@pytest.mark.filterwarnings("ignore:(You are trying to modify|Already found|`is_gradient_checkpointing`)")
def test_the_documented_way_to_tune_starts_at_the_same_outputs_and_leaves_the_correction(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"]), adapter_name="tuned")
    model.set_adapter(["default", "tuned"])
    torch.testing.assert_close(counted_outputs(model)[0], artifact.outputs, rtol=1e-5, atol=1e-6)
