"""What was trained, in every form it is handed on: merged exactly, apart from its base, and for other runtimes."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from examples import DEMO_MODEL
from srr_core.checkpoint.artifact_names import ADAPTER_PREFIX
from srr_core.exporters.export import export
from srr_core.formats.adapter import ADAPTER_WEIGHTS
from srr_core.formats.artifact import open_artifact
from srr_core.pipeline.finetune import finetune
from srr_core.recipe import AdapterSpec, GGUFSpec, GPTQFormatSpec, MergedSpec, MXIntSpec
from srr_core.recipe.tuning import (
    AdapterResult,
    LoRAStart,
    MergedResult,
)
from srr_core.runtime import load
from tests.pico import build_checkpoint
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, pico_llama
from tests.srr_core.tuners.starts import going_on, write_rows


def spec(**changes):
    return going_on(**{"rank": 4, **changes})


def outputs(model):
    with torch.inference_mode():
        return model.eval()(TOKENS)[0].float()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    return write_rows(file, ({"text": f"the river {i}" + "!" * (i % 4)} for i in range(24)))


@pytest.fixture(scope="module")
def tuned(rows, tmp_path_factory):
    """Return an artifact whose L·R went on learning, and the one it was before."""
    folder = tmp_path_factory.mktemp("tuned")
    built = build_artifact(folder / "before", pico_llama(biases=False, vocab=4096), MXIntSpec(num_bits=4))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / file, built.directory / file)
    finetune(built.directory, rows, spec(), folder / "out")
    assert (folder / "out" / ADAPTER_WEIGHTS).read_bytes() != (built.directory / ADAPTER_WEIGHTS).read_bytes()
    return folder / "out"


def test_merged_model_is_exactly_the_codes_plus_the_factors(tuned, tmp_path):
    export(tuned, tmp_path / "merged", MergedSpec(dtype="float32"))
    tensors = load_file(next((tmp_path / "merged").glob("*.safetensors")))
    artifact = open_artifact(tuned)
    for name in artifact.module_names():
        layer = artifact.read_layer(name)
        exact = layer.quantized.dequantize() + layer.left.float() @ layer.right.float()
        assert torch.equal(tensors[f"{name}.weight"], exact)


def test_merged_result_has_the_bits_of_the_merged_adapter(tuned, rows, tmp_path):
    before = tuned.parent / "before"
    finetune(before, rows, spec(result=MergedResult(dtype="float32")), tmp_path / "result")
    export(tuned, tmp_path / "export", MergedSpec(dtype="float32"))
    one, other = (load_file(next((tmp_path / place).glob("*.safetensors"))) for place in ("result", "export"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())


def test_base_and_trained_adapter_apart_are_the_tuned_artifact(tuned, tmp_path):
    export(tuned, tmp_path / "parts", AdapterSpec(base_model="base"))
    model = load(tmp_path / "parts" / "base", adapter=tmp_path / "parts" / "adapter", dtype=torch.float32)
    assert torch.equal(outputs(model), outputs(load(tuned, adapter=tuned, dtype=torch.float32)))


def test_codes_for_gptq_kernels_go_with_the_trained_adapter(tuned, tmp_path):
    export(tuned, tmp_path / "gptq", GPTQFormatSpec())
    assert any(name.endswith(".qweight") for name in load_file(next((tmp_path / "gptq").glob("model*.safetensors"))))
    trained, written = (load_file(place / ADAPTER_WEIGHTS) for place in (tuned, tmp_path / "gptq"))
    assert trained.keys() == written.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in trained.items())


def test_one_file_for_llama_cpp_is_the_base_plus_what_was_trained(tuned, tmp_path):
    export(tuned, tmp_path / "gguf", GGUFSpec(merged="f32"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "gguf", gguf_file="model.gguf", dtype=torch.float32)
    torch.testing.assert_close(outputs(model), outputs(load(tuned, dtype=torch.float32)), rtol=1e-4, atol=1e-4)


def test_merged_16_bit_model_is_exactly_the_base_plus_the_factors(rows, tmp_path):
    source = build_checkpoint(tmp_path / "source", dtype=torch.float32)
    for result in (AdapterResult(), MergedResult(dtype="float32")):
        finetune(source, rows, spec(start=LoRAStart(), result=result), tmp_path / result.kind)
    base, factors, merged = (
        load_file(next((tmp_path / folder).glob(pattern)))
        for folder, pattern in (
            ("adapter", "model*.safetensors"),
            ("adapter", ADAPTER_WEIGHTS),
            ("merged", "*.safetensors"),
        )
    )
    corrected = [name for name in base if f"{ADAPTER_PREFIX}{name.removesuffix('.weight')}.lora_A.weight" in factors]
    assert len(corrected) == 14
    for name in corrected:
        left, right = (
            factors[f"{ADAPTER_PREFIX}{name.removesuffix('.weight')}.lora_{side}.weight"].float() for side in "BA"
        )
        assert torch.equal(merged[name], base[name].float() + left @ right)
    assert all(torch.equal(merged[name], base[name].float()) for name in base if name not in corrected)
