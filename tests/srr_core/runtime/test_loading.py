"""`load` gives a transformers model that is packed in memory and computes Q + L·R, or says what is missing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM

from srr_core.errors import CheckpointError
from srr_core.exporters.export import export
from srr_core.formats.adapter import ADAPTER_WEIGHTS
from srr_core.formats.artifact import open_artifact
from srr_core.formats.layouts import native_layout
from srr_core.recipe import AdapterSpec, IntegerSpec, MXIntSpec, NormalFloatSpec
from srr_core.runtime import PackedLinear, load
from srr_core.runtime.integration import match_modules
from srr_core.verification.digest import layer_digest
from tests.srr_core.exporters.artifacts import (
    SHARD,
    TOKENS,
    build_artifact,
    edit_tensors,
    pico_bert,
    pico_llama,
)


def packed_layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}


def outputs(model):
    with torch.inference_mode():
        return model(TOKENS)[0]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build_artifact(tmp_path_factory.mktemp("artifact") / "a", pico_llama(), MXIntSpec(num_bits=3))


SPECS = [
    *(MXIntSpec(num_bits=bits, block_size=block) for bits in (2, 3, 4, 8) for block in (16, 32)),
    IntegerSpec(num_bits=4, group_size=32, symmetric=False),
    NormalFloatSpec(num_bits=4, block_size=32),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.bits_per_weight:.2f}")
def test_loaded_model_is_packed_and_equals_the_dense_sum(tmp_path, spec):
    artifact = build_artifact(tmp_path / "a", pico_llama(), spec)
    model = load(artifact.directory, dtype=torch.float32)
    assert len(packed_layers(model)) == 14
    # fp16 scales: the reference holds what stock tools decode, each weight rounded to fp16; ours are exact.
    tolerance = 1e-5 if spec.kind == "mxint" else 1e-3
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=tolerance, atol=tolerance)


def test_encoder_loads_packed_with_and_without_its_head(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_bert(), MXIntSpec(num_bits=4))
    whole = load(artifact.directory, dtype=torch.float32)
    torch.testing.assert_close(outputs(whole), artifact.outputs, rtol=1e-5, atol=1e-5)
    body = AutoModel.from_pretrained(artifact.directory, dtype=torch.float32).eval()
    assert len(packed_layers(body)) == 12
    torch.testing.assert_close(outputs(body), outputs(whole.bert), rtol=1e-5, atol=1e-5)


def test_plain_from_pretrained_stays_packed_once_the_runtime_is_imported(artifact):
    model = AutoModelForCausalLM.from_pretrained(artifact.directory, dtype=torch.float32).eval()
    assert len(packed_layers(model)) == 14
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


def test_packed_model_takes_less_memory_than_its_dense_twin(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    held = sum(tensor.nbytes for layer in packed_layers(model).values() for tensor in layer.buffers())
    weights = sum(layer.in_features * layer.out_features for layer in packed_layers(model).values())
    assert held == weights * 3 // 8 + weights // 32 * 2


def test_loaded_model_keeps_no_file_mapped(artifact):
    model = load(artifact.directory)
    assert str(artifact.directory) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert len(list(model.parameters())) > 0


def test_greedy_generation_equals_that_of_the_dense_model(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    prompt = TOKENS[:1, :5]
    generated = model.generate(prompt, max_new_tokens=6, do_sample=False, pad_token_id=0)
    for step in range(6):
        with torch.inference_mode():
            logits = model(generated[:, : 5 + step]).logits[0, -1]
        assert int(logits.argmax()) == int(generated[0, 5 + step])


def test_bfloat16_model_uses_the_int4_kernel_and_stays_close(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=4, block_size=32))
    model = load(artifact.directory, dtype=torch.bfloat16)
    y = outputs(model).float()
    assert {layer.path.name for layer in packed_layers(model).values()} == {"int4pack"}
    assert float((y - artifact.outputs).norm() / artifact.outputs.norm()) < 0.02


def test_factors_of_a_bfloat16_model_take_the_bytes_they_take_on_disk(artifact):
    model = load(artifact.directory, dtype=torch.bfloat16)
    factors = {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}
    stored = open_artifact(artifact.directory).read_layer("model.layers.0.mlp.up_proj")
    assert {parameter.dtype for parameter in factors.values()} == {torch.bfloat16}
    assert torch.equal(factors["model.layers.0.mlp.up_proj.lora_A.default.weight"], stored.right)


def test_casting_the_model_keeps_its_codes(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    before = {name: layer_digest(layer.quantized(), None, None) for name, layer in packed_layers(model).items()}
    model.to(torch.bfloat16).to(torch.float32)
    assert before == {name: layer_digest(layer.quantized(), None, None) for name, layer in packed_layers(model).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_cast_to_the_type_of_a_packed_weight_keep_their_values(artifact, dtype):
    layer = next(iter(packed_layers(load(artifact.directory, dtype=dtype)).values()))
    inputs = torch.linspace(-1, 1, layer.in_features, dtype=dtype)
    assert torch.equal(inputs.to(layer.weight.dtype), inputs)


def test_training_step_moves_the_adapter_and_nothing_else(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    factors = [parameter for name, parameter in model.named_parameters() if ".lora_" in name]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in factors:
        parameter.requires_grad_(True)
    layers = packed_layers(model)
    before = {name: layer_digest(layer.quantized(), None, None) for name, layer in layers.items()}
    optimizer = torch.optim.SGD(factors, lr=1e-2)
    losses = []
    for _ in range(3):
        loss = model(TOKENS, labels=TOKENS).loss
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[2] < losses[1] < losses[0]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in factors[:2])
    assert before == {name: layer_digest(layer.quantized(), None, None) for name, layer in layers.items()}


def test_saved_adapter_is_loaded_again_on_top_of_its_artifact(artifact, tmp_path):
    model = load(artifact.directory, dtype=torch.float32)
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.up_proj.lora_B.default.weight").mul_(2)
    model.save_pretrained(tmp_path / "trained")
    assert not list((tmp_path / "trained").glob("model*"))  # the packed weights stay where they are
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "trained", dtype=torch.float32).eval()
    assert len(packed_layers(again)) == 14
    assert torch.equal(outputs(again), outputs(model))


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # of peft, to whoever adds a second one
def test_second_adapter_is_trained_on_top_of_the_correction(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]), adapter_name="task")
    model.set_adapter(["default", "task"])
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)
    model(TOKENS, labels=TOKENS).loss.backward()
    assert model.get_parameter("model.layers.0.self_attn.q_proj.lora_B.task.weight").grad.any()


@pytest.mark.parametrize("device", ["auto", "cpu", {"": "cpu"}], ids=["auto", "cpu", "map"])
def test_placement_on_a_device_changes_nothing(artifact, device):
    model = load(artifact.directory, dtype=torch.float32, device=device)
    assert len(packed_layers(model)) == 14
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


def test_layers_on_disk_are_refused(artifact, tmp_path):
    placement = {"": "cpu", "model.layers.1": "disk"}
    with pytest.raises(ValueError, match="cannot be offloaded to disk"):
        load(artifact.directory, device=placement, offload_folder=tmp_path / "offload")


def test_half_and_dequantize_are_refused(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"`\.half\(\)` is not supported"):
        model.half()
    with pytest.raises(NotImplementedError, match="srr export --to merged"):
        model.dequantize()


# 8-bit codes have the shape of their weight, so without the refusal a merge would write numbers over them.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft 0.21 asks for it
@pytest.mark.parametrize("num_bits", [3, 8])
@pytest.mark.parametrize("safe", [False, True])
def test_merging_the_correction_into_packed_weights_is_refused(tmp_path, num_bits, safe):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=num_bits))
    export(artifact.directory, tmp_path / "s", AdapterSpec())
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "s" / "base", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, tmp_path / "s" / "adapter").eval()
    with pytest.raises(TypeError, match="cannot be merged into it in memory"):
        model.merge_and_unload(safe_merge=safe)
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


COMPILE = """
import sys
import torch
from srr_core.runtime import load

folder, dtype = sys.argv[1:]
tokens = torch.arange(3, 23).reshape(2, 10)
with torch.inference_mode():
    model = load(folder, dtype=getattr(torch, dtype))
    eager = model(tokens).logits
    # Traced and lowered, but not compiled by inductor, which needs a C++ compiler.
    compiled = torch.compile(model, backend="aot_eager")(tokens).logits
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
# bf16 results are rounded at other places once operations are traced.
tolerance = 1e-5 if dtype == "float32" else 2**-5
torch.testing.assert_close(compiled, eager, rtol=tolerance, atol=tolerance)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"], ids=["tiled", "int4pack"])
def test_compiled_model_computes_the_same(tmp_path, dtype):
    """In a process of its own: the tests' type checks are not what users compile."""
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=4))
    root = Path(__file__).parents[3]
    outcome = subprocess.run(
        [sys.executable, "-c", COMPILE, artifact.directory, dtype],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]


def test_generation_with_a_static_cache_is_the_same(artifact):
    model = load(artifact.directory, dtype=torch.float32)
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(TOKENS[:1, :5], **settings)
    assert torch.equal(model.generate(TOKENS[:1, :5], cache_implementation="static", **settings), plain)


def test_model_without_an_adapter_is_saved_and_loaded_again_exactly(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3), rank=0)
    model = load(artifact.directory, dtype=torch.float32)
    model.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())["quantization_config"]
    assert written == json.loads((artifact.directory / "config.json").read_text())["quantization_config"]
    again = load(tmp_path / "again", dtype=torch.float32)
    assert torch.equal(outputs(again), outputs(model))


def as_repository(directory, cache, **adapter_changes):
    """Lay an artifact down as the Hub's client keeps a downloaded repository; return the options that find it."""
    commit = "0123456789" * 4
    repository = cache / "models--org--model"
    shutil.copytree(directory, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    if adapter_changes:
        file = repository / "snapshots" / commit / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **adapter_changes}))
    return {"cache_dir": cache, "local_files_only": True}


@pytest.mark.parametrize("rank", [0, 4])
def test_repository_is_loaded_like_its_folder(tmp_path, rank):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3), rank=rank)
    model = load("org/model", dtype=torch.float32, **as_repository(artifact.directory, tmp_path / "cache"))
    assert len(packed_layers(model)) == 14
    assert model.config.name_or_path == "org/model"
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


def test_repository_is_not_left_for_the_one_its_adapter_names(artifact, tmp_path):
    options = as_repository(artifact.directory, tmp_path / "cache", base_model_name_or_path="org/other")
    model = load("org/model", dtype=torch.float32, **options)
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


def test_repository_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"org/none: config\.json cannot be read"):
        load("org/none", cache_dir=tmp_path, local_files_only=True)


def test_missing_adapter_is_an_error_not_a_worse_model(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3))
    (artifact.directory / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is missing"):
        load(artifact.directory)


def test_missing_factor_is_an_error(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3))
    name = "base_model__model__model__layers__0__mlp__up_proj__lora_B__weight"
    edit_tensors(artifact.directory / ADAPTER_WEIGHTS, **{name: None})
    with pytest.raises(CheckpointError, match=r"up_proj\.lora_B\.weight' is missing"):
        load(artifact.directory)


def test_missing_peft_is_an_error(artifact, monkeypatch):
    monkeypatch.setattr("srr_core.runtime.integration.is_peft_available", lambda: False)
    with pytest.raises(ImportError, match="pip install peft"):
        load(artifact.directory)


def test_scale_of_the_wrong_shape_is_named_before_it_is_read(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3))
    scale = torch.ones(96, 3, dtype=torch.bfloat16)
    edit_tensors(artifact.directory / SHARD, model__layers__0__mlp__up_proj__weight_scale=scale)
    with pytest.raises(CheckpointError, match=rf"{SHARD}: tensor .*up_proj\.weight_scale.*\[96, 3\]"):
        load(artifact.directory)


def test_model_of_another_tool_is_refused(tmp_path):
    pico_llama().save_pretrained(tmp_path / "dense")
    with pytest.raises(CheckpointError, match="not one of our artifacts"):
        load(tmp_path / "dense")


def test_checkpoints_of_other_tools_still_take_the_stock_route(artifact, tmp_path):
    config = transformers.AutoConfig.from_pretrained(artifact.directory)
    config.quantization_config = {k: v for k, v in config.quantization_config.items() if k != "srr"}
    model = AutoModelForCausalLM.from_pretrained(artifact.directory, config=config, dtype=torch.float32).eval()
    assert not packed_layers(model)
    assert isinstance(model.get_submodule("model.layers.0.mlp.up_proj").base_layer, nn.Linear)
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-6)


def test_a_vision_tower_with_blocks_of_the_same_names_stays_as_it_is():
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **sizes}, vision_config={"model_type": "clip_vision_model", **sizes}
    )
    with torch.device("meta"):
        model = transformers.LlavaForConditionalGeneration(config)
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".layers." in name]
    language = [name for name in linears if "language_model" in name]
    assert len(language) < len(linears)
    assert match_modules(model, language) == dict(zip(language, language, strict=True))


def test_conv1d_model_loads_packed(tmp_path):
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=96, n_positions=64)
    spec = MXIntSpec(num_bits=4)
    layout = native_layout(spec, all_linear=False)
    artifact = build_artifact(tmp_path / "a", transformers.GPT2LMHeadModel(config).eval(), spec, layout=layout)
    model = load(artifact.directory, dtype=torch.float32)
    assert len(packed_layers(model)) == 8
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)
