"""Every export, read back by another reader than ours, is the artifact again."""

import json
import re
import shutil

import gguf
import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from examples import DEMO_MODEL
from srr_core.errors import DestinationError, ExportError
from srr_core.exporters.card import read_metadata
from srr_core.exporters.export import EXPORTERS, export
from srr_core.formats.adapter import ADAPTER_WEIGHTS
from srr_core.formats.artifact import open_artifact
from srr_core.formats.layouts import native_layout
from srr_core.recipe import AdapterSpec, GGUFSpec, GPTQFormatSpec, IntegerSpec, MergedSpec, MXIntSpec, NormalFloatSpec
from srr_core.runtime import PackedLinear
from tests.pico import build_model
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, pico_bert, pico_llama, pico_moe


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    built = build_artifact(
        tmp_path_factory.mktemp("artifact") / "a", pico_llama(biases=False, vocab=4096), MXIntSpec(num_bits=3)
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / name, built.directory / name)
    return built


def outputs(model):
    with torch.inference_mode():
        return model.eval()(TOKENS)[0]


def dense(artifact, module):
    return open_artifact(artifact.directory).read_layer(module).quantized.dequantize()


def test_every_target_has_an_exporter():
    assert {spec.__name__ for spec in EXPORTERS} == {"MergedSpec", "AdapterSpec", "GPTQFormatSpec", "GGUFSpec"}


def test_merged_model_is_the_dense_sum_without_our_package(artifact, tmp_path):
    export(artifact.directory, tmp_path / "m", MergedSpec(dtype="float32"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "m" / "tokenizer.json").exists()


def test_experts_of_our_own_layout_are_merged_for_everyone(tmp_path):
    spec = IntegerSpec(num_bits=3, group_size=32)
    layout = native_layout(spec, has_fused_experts=True)
    experts = build_artifact(tmp_path / "a", pico_moe("mixtral"), spec, layout=layout)
    export(experts.directory, tmp_path / "m", MergedSpec(dtype="float32"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert not layout.stock_loadable
    torch.testing.assert_close(outputs(model), experts.outputs, rtol=1e-5, atol=1e-6)


def test_merged_weights_are_rounded_once(artifact, tmp_path):
    export(artifact.directory, tmp_path / "m", MergedSpec())
    (shard,) = (tmp_path / "m").glob("*.safetensors")
    name = "model.layers.1.mlp.down_proj"
    layer = open_artifact(artifact.directory).read_layer(name)
    exact = layer.quantized.dequantize() + layer.left.float() @ layer.right.float()
    assert torch.equal(load_file(shard)[f"{name}.weight"], exact.bfloat16())


def test_merged_transposed_model_is_the_dense_sum(tmp_path):
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=96, n_positions=64)
    model = transformers.GPT2LMHeadModel(config).eval()
    built = build_artifact(tmp_path / "a", model, NormalFloatSpec(num_bits=4, block_size=32))
    export(built.directory, tmp_path / "m", MergedSpec(dtype="float32"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(outputs(again), built.outputs, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft 0.21 asks for it
def test_separate_adapter_on_its_base_is_the_dense_sum(artifact, tmp_path):
    export(artifact.directory, tmp_path / "s", AdapterSpec(base_model="org/base"))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "s" / "base", dtype=torch.float32)
    assert any(isinstance(module, PackedLinear) for module in base.modules())
    assert not torch.allclose(outputs(base), artifact.outputs, atol=1e-3)
    model = PeftModel.from_pretrained(base, tmp_path / "s" / "adapter")
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)
    written = json.loads((tmp_path / "s" / "adapter" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "org/base"


def test_separate_adapter_of_rank_zero_is_refused(tmp_path):
    built = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=4), rank=0)
    with pytest.raises(ExportError, match="rank 0"):
        export(built.directory, tmp_path / "s", AdapterSpec())
    assert not (tmp_path / "s").exists()


def bits_of(words, num_bits, count):
    """The codes of one column of int32 words, by the definition of the format: a little-endian bit stream."""
    stream = sum((int(word) & 0xFFFFFFFF) << (32 * index) for index, word in enumerate(words))
    return [(stream >> (num_bits * index)) & ((1 << num_bits) - 1) for index in range(count)]


@pytest.mark.parametrize("has_zero_points", [False, True])
@pytest.mark.parametrize("num_bits", [2, 3, 4, 8])
def test_gptq_tensors_decode_to_the_same_weights(tmp_path, num_bits, has_zero_points):
    affine = IntegerSpec(num_bits=num_bits, group_size=32, symmetric=False)
    built = build_artifact(tmp_path / "a", pico_llama(), affine if has_zero_points else MXIntSpec(num_bits=num_bits))
    export(built.directory, tmp_path / "g", GPTQFormatSpec())
    (shard,) = (tmp_path / "g").glob("model*.safetensors")
    tensors, name = load_file(shard), "model.layers.0.self_attn.q_proj"
    expected = dense(built, name)
    codes = torch.tensor([bits_of(column, num_bits, 64) for column in tensors[f"{name}.qweight"].t().tolist()])
    zeros = torch.tensor([bits_of(row, num_bits, 64) for row in tensors[f"{name}.qzeros"].tolist()])
    zeros = zeros if has_zero_points else zeros + 1
    groups = tensors[f"{name}.g_idx"].long()
    scales = tensors[f"{name}.scales"].float()
    decoded = (codes - zeros[groups].t()) * scales[groups].t()
    assert torch.equal(decoded, expected)
    assert (tmp_path / "g" / ADAPTER_WEIGHTS).exists()
    stated = json.loads((tmp_path / "g" / "config.json").read_text())["quantization_config"]
    assert (stated["bits"], stated["sym"], stated["checkpoint_format"]) == (
        *(num_bits, not has_zero_points, "gptq_v2" if has_zero_points else "gptq"),
    )


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (MXIntSpec(num_bits=3, block_size=16), "groups of 16"),
        (NormalFloatSpec(num_bits=4, block_size=32), "uniform codes only"),
    ],
)
def test_grids_gptq_kernels_do_not_take_are_refused(tmp_path, spec, reason):
    built = build_artifact(tmp_path / "a", pico_llama(), spec)
    with pytest.raises(ExportError, match=reason):
        export(built.directory, tmp_path / "g", GPTQFormatSpec())
    assert not (tmp_path / "g").exists()


def test_gguf_model_read_by_transformers_is_q_alone(artifact, tmp_path):
    (note, how_to) = export(artifact.directory, tmp_path / "g", GGUFSpec(merged="none"))
    assert note == "14 layers in MXFP4: every weight exact"
    assert "--lora adapter.gguf" in how_to
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "g", gguf_file="model.gguf", dtype=torch.float32)
    for module in ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "model.layers.1.mlp.up_proj"):
        assert torch.equal(model.get_submodule(module).weight, dense(artifact, module))


def test_gguf_adapter_holds_the_factors_in_the_rows_of_the_model(artifact, tmp_path):
    export(artifact.directory, tmp_path / "g", GGUFSpec(merged="none"))
    reader = gguf.GGUFReader(tmp_path / "g" / "adapter.gguf")
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    assert reader.fields["adapter.type"].contents() == "lora"
    assert reader.fields["adapter.lora.alpha"].contents() == 0.0
    assert len(tensors) == 28
    up = open_artifact(artifact.directory).read_layer("model.layers.0.mlp.up_proj")
    assert torch.equal(tensors["blk.0.ffn_up.weight.lora_a"], up.right.float())
    assert torch.equal(tensors["blk.0.ffn_up.weight.lora_b"], up.left.float())
    # llama.cpp's order of a head of 16 rows: 0, 8, 1, 9, ...
    query = open_artifact(artifact.directory).read_layer("model.layers.0.self_attn.q_proj").left.float()
    assert torch.equal(tensors["blk.0.attn_q.weight.lora_b"][:4], query[[0, 8, 1, 9]])


def test_merged_gguf_read_by_transformers_is_the_dense_sum(artifact, tmp_path):
    export(artifact.directory, tmp_path / "g", GGUFSpec(merged="f32"))
    assert not (tmp_path / "g" / "adapter.gguf").exists()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "g", gguf_file="model.gguf", dtype=torch.float32)
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("merged", "name", "near"), [("auto", "Q8_0", 0.02), ("q8_0", "Q8_0", 0.02), ("q4_k", "Q8_0", 0.02)]
)
def test_one_file_read_by_transformers_is_nearly_the_sum(artifact, tmp_path, merged, name, near):
    # Rows of 64 and 96 inputs are no whole super-blocks, so every K type becomes Q8_0 here.
    (note,) = export(artifact.directory, tmp_path / "g", GGUFSpec(merged=merged))
    assert re.fullmatch(r"14 layers in Q8_0, Q \+ L·R merged; rounding changed 0\.\d\d % of their norm", note)
    assert not (tmp_path / "g" / "adapter.gguf").exists()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "g", gguf_file="model.gguf", dtype=torch.float32)
    error = (outputs(model) - artifact.outputs).norm() / artifact.outputs.norm()
    assert 0 < float(error) < 0.02


def test_one_file_of_whole_super_blocks_is_in_six_bits(tmp_path):
    model = pico_llama(biases=False, vocab=4096, hidden=256, intermediate=256)
    built = build_artifact(tmp_path / "a", model, MXIntSpec(num_bits=4))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / file, built.directory / file)
    (note,) = export(built.directory, tmp_path / "g", GGUFSpec())
    assert note.startswith("14 layers in Q6_K, Q + L·R merged; rounding changed 1.")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "g", gguf_file="model.gguf", dtype=torch.float32)
    error = (outputs(read) - built.outputs).norm() / built.outputs.norm()
    assert float(error) < 0.05


def test_zero_points_are_written_with_the_rounding_said(tmp_path):
    spec = IntegerSpec(num_bits=4, group_size=32, symmetric=False)
    built = build_artifact(tmp_path / "a", pico_llama(biases=False, vocab=4096), spec, rank=0)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / file, built.directory / file)
    (note,) = export(built.directory, tmp_path / "g", GGUFSpec())
    assert re.fullmatch(
        r"14 layers in Q4_1: every code exact, offsets rounded to fp16, at most 0\.\d+ % of a step", note
    )
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "g", gguf_file="model.gguf", dtype=torch.float32)
    torch.testing.assert_close(outputs(read), built.outputs, rtol=1e-2, atol=2e-3)


def test_the_frequencies_of_llama_3_are_divided_as_transformers_does(tmp_path):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    source = pico_llama(biases=False, vocab=4096, hidden=256)
    config = transformers.LlamaConfig(**{**source.config.to_dict(), "rope_parameters": rope})
    model = transformers.LlamaForCausalLM(config).eval()
    built = build_artifact(tmp_path / "a", model, MXIntSpec(num_bits=4))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / file, built.directory / file)
    export(built.directory, tmp_path / "g", GGUFSpec())
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "g" / "model.gguf").tensors}
    divisors = torch.from_numpy(tensors["rope_freqs.weight"].copy())
    plain = 1 / 500000.0 ** (torch.arange(0, 64, 2) / 64)
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    torch.testing.assert_close(plain / divisors, stretched)
    assert float(divisors.min()) == 1.0
    assert float(divisors.max()) == 32.0


def test_gguf_tokenizer_read_by_transformers_splits_text_the_same_way(artifact, tmp_path):
    export(artifact.directory, tmp_path / "g", GGUFSpec())
    text = "The quick brown fox, 42 times; it's\n here."
    ours = transformers.AutoTokenizer.from_pretrained(DEMO_MODEL)(text)["input_ids"]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "g", gguf_file="model.gguf")(text)["input_ids"]
    assert [token for token in theirs if token != 0] == [token for token in ours if token != 0]


def test_gguf_context_ends_where_the_attention_window_does(tmp_path):
    built = build_artifact(tmp_path / "a", build_model("MistralForCausalLM", vocab_size=4096), MXIntSpec(num_bits=4))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / name, built.directory / name)
    notes = export(built.directory, tmp_path / "g", GGUFSpec())
    assert "keep to 8 tokens" in notes[1]
    assert gguf.GGUFReader(tmp_path / "g" / "model.gguf").fields["llama.context_length"].contents() == 8


def test_gguf_of_an_unknown_architecture_is_refused(tmp_path):
    built = build_artifact(tmp_path / "a", pico_bert(), MXIntSpec(num_bits=4))
    with pytest.raises(ExportError, match="not BertForMaskedLM"):
        export(built.directory, tmp_path / "g", GGUFSpec())


def test_gguf_without_a_tokenizer_is_refused(tmp_path):
    built = build_artifact(tmp_path / "a", pico_llama(biases=False), MXIntSpec(num_bits=4))
    with pytest.raises(ExportError, match=r"tokenizer\.json is missing"):
        export(built.directory, tmp_path / "g", GGUFSpec())


@pytest.mark.parametrize(
    ("spec", "folders"),
    [
        (MergedSpec(), ["."]),
        (AdapterSpec(), ["base", "adapter"]),
        (GPTQFormatSpec(), ["."]),
        (GGUFSpec(), ["."]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_licence_of_the_source_goes_with_every_export(artifact, tmp_path, spec, folders):
    shutil.copytree(artifact.directory, tmp_path / "a")
    for name in ("LICENSE", "NOTICE.txt"):
        (tmp_path / "a" / name).write_text("terms")
    export(tmp_path / "a", tmp_path / "x", spec)
    assert all((tmp_path / "x" / folder / name).exists() for folder in folders for name in ("LICENSE", "NOTICE.txt"))


def test_destination_that_exists_is_refused(artifact, tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(DestinationError, match="exists already"):
        export(artifact.directory, tmp_path / "m", MergedSpec())


@pytest.mark.parametrize(
    ("spec", "folders"),
    [(MergedSpec(), ["."]), (AdapterSpec(), ["base", "adapter"]), (GPTQFormatSpec(), ["."]), (GGUFSpec(), ["."])],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_every_export_has_a_card_with_the_terms_of_the_source(artifact, tmp_path, spec, folders):
    shutil.copytree(artifact.directory, tmp_path / "a")
    card = "---\nlicense: apache-2.0\nlanguage: [de]\nbase_model: org/source\ntags: [srr, chat]\n---\n\n# A\n"
    (tmp_path / "a" / "README.md").write_text(card)
    notes = export(tmp_path / "a", tmp_path / "x", spec)
    for folder in folders:
        file = tmp_path / "x" / folder / "README.md"
        stated = read_metadata(file)
        assert {key: stated[key] for key in ("license", "language", "tags")} == {
            "license": "apache-2.0",
            "language": ["de"],
            "tags": ["srr", "chat"],
        }
        assert stated["base_model"] == "org/source"
        assert "licence is that of the source" in file.read_text()
        assert all(note in file.read_text() for note in notes)


def test_the_card_of_an_adapter_names_its_base(artifact, tmp_path):
    export(artifact.directory, tmp_path / "s", AdapterSpec(base_model="org/base"))
    stated = read_metadata(tmp_path / "s" / "adapter" / "README.md")
    assert (stated["base_model"], stated["base_model_relation"], stated["library_name"]) == (
        *("org/base", "adapter", "peft"),
    )


@pytest.mark.parametrize("text", ["", "no block", "---\n[\n---\n", "---\n- a list\n---\n", "---\nopen"])
def test_a_card_without_metadata_has_none(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert read_metadata(tmp_path / "README.md") == {}
