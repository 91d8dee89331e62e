"""The matrix says no more than was run or read, and names the obstacle."""

import re

import pytest

from srr_core.formats.adapter import adapter_config
from srr_core.formats.expert_factors import expert_parts
from srr_core.recipe import GPTQSpec, IntegerSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec, Recipe
from srr_core.recipe.compatibility import compatibility, rope_type
from srr_core.recipe.gguf_types import GGUF_ARCHITECTURES

LLAMA_7B = [(4096, 4096), (11008, 4096), (4096, 11008)]


def rows(quantizer, shapes=LLAMA_7B, *, rank=32, **facts):
    return compatibility(
        Recipe(quantizer=quantizer, rank=rank), shapes, **{"architecture": "LlamaForCausalLM", **facts}
    )


def row(quantizer, start, shapes=LLAMA_7B, *, rank=32, **facts):
    (found,) = [row for row in rows(quantizer, shapes, rank=rank, **facts) if row.runtime.startswith(start)]
    return found


def test_nothing_that_was_only_read_is_called_a_yes():
    every = [row for bits in range(2, 9) for row in rows(MXIntSpec(num_bits=bits))]
    assert not [row for row in every if row.evidence == "source" and row.verdict == "yes"]


def test_four_bits_in_groups_of_32_meet_no_obstacle():
    assert {row.verdict for row in rows(MXIntSpec(num_bits=4))} == {"yes", "untested"}


@pytest.mark.parametrize("quantizer", [NormalFloatSpec(), QuIPSharpSpec()])
def test_codes_without_a_uniform_grid_load_packed_with_our_runtime_only(quantizer):
    assert {row.runtime for row in rows(quantizer, rank=0) if row.verdict == "yes"} == {
        "srr_core.runtime",
        "llama.cpp (srr export --to gguf)",
        "vLLM with the srr plugin (Q + L·R)",
        "vLLM --enable-lora (L·R)",
    }


@pytest.mark.parametrize(
    ("quantizer", "start", "reason"),
    [
        (MXIntSpec(num_bits=3), "vLLM, Marlin", "4 or 8 bits, not 3"),
        (MXIntSpec(num_bits=4, block_size=16), "vLLM, Marlin", "32, 64 or 128, not 16"),
        (IntegerSpec(num_bits=8, symmetric=False), "vLLM, Marlin", "zero points with 4 bits, not with 8"),
        (MXIntSpec(num_bits=3), "SGLang", "4 or 8 bits, not 3"),
        (MXIntSpec(num_bits=4, block_size=16), "SGLang", "32, 64 or 128, not 16"),
        (MXIntSpec(num_bits=3), "vLLM (CPU)", "4 bits, not 3"),
        (MXIntSpec(num_bits=5), "GPTQ kernels", "2, 3, 4 or 8 bits, not 5"),
        (NormalFloatSpec(), "GPTQ kernels", "uniform grids only"),
    ],
)
def test_obstacle_is_named(quantizer, start, reason):
    found = row(quantizer, start)
    assert found.verdict == "no"
    assert reason in found.reason


@pytest.mark.parametrize(
    ("quantizer", "rank", "said"),
    [
        (MXIntSpec(num_bits=3, block_size=16, exponent_window=5), 0, "Q3_K holds Q exactly"),
        (
            MXIntSpec(num_bits=3, block_size=16),
            0,
            "exactly where exponents spread little, always with exponent_window <= 5",
        ),
        (MXIntSpec(num_bits=2, block_size=16, exponent_window=4), 0, "exponent_window <= 3"),
        (MXIntSpec(num_bits=4, block_size=16), 0, "Q6_K holds Q exactly where exponents spread little"),
        (MXIntSpec(num_bits=4), 32, "Q + L·R rounded to Q6_K with the error stated; Q4_0 holds Q exactly"),
        (MXIntSpec(num_bits=6), 32, "rounded to Q8_0"),
        (IntegerSpec(num_bits=4, symmetric=False), 0, "Q4_1 holds Q but for offsets, which it rounds to fp16"),
        (IntegerSpec(num_bits=5, symmetric=False), 0, "Q5_1 holds Q but for offsets"),
        (IntegerSpec(num_bits=8, symmetric=False), 0, "rounded to Q8_0 with the error stated; no block type holds"),
        (MXIntSpec(num_bits=8, block_size=16), 0, "no block type holds these codes exactly"),
        (NormalFloatSpec(), 0, "one file, Q + L·R rounded to Q6_K"),
    ],
)
def test_llama_cpp_takes_one_file_and_the_matrix_says_what_is_exact(quantizer, rank, said):
    found = row(quantizer, "llama.cpp", rank=rank)
    assert found.verdict == "yes"
    assert said in found.reason


@pytest.mark.parametrize("architecture", GGUF_ARCHITECTURES)
def test_architectures_of_the_gguf_export_are_a_yes(architecture):
    assert row(MXIntSpec(), "llama.cpp", architecture=architecture).verdict == "yes"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"architecture": "Gemma3ForCausalLM"}, "Qwen2ForCausalLM or Qwen3ForCausalLM, not Gemma3ForCausalLM"),
        ({"architecture": ""}, "not a model without a class"),
        ({"rope": "yarn"}, "rotary embeddings of type yarn"),
        ({"rope": "llama3", "architecture": "Qwen2ForCausalLM"}, "rotary embeddings of type llama3"),
    ],
)
def test_models_the_gguf_export_does_not_know_are_a_no(facts, reason):
    found = row(MXIntSpec(), "llama.cpp", **facts)
    assert found.verdict == "no"
    assert reason in found.reason


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "default"),
        ({"rope_scaling": None}, "default"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "llama3"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "default"),
        ({"rope_parameters": ["nonsense"]}, "default"),
    ],
)
def test_rope_type_is_read_under_all_its_names(config, expected):
    assert rope_type(config) == expected


@pytest.mark.parametrize(
    ("shapes", "start"),
    [([(100, 4096)], "SGLang"), ([(4096, 96)], "SGLang"), ([(4096, 75)], "transformers")],
)
def test_shapes_a_runtime_does_not_take_are_a_no(shapes, start):
    assert row(MXIntSpec(num_bits=4), start, shapes).verdict == "no"


def test_transposed_weights_are_left_to_our_runtime():
    assert row(MXIntSpec(), "transformers", all_linear=False).verdict == "no"


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "GPT2ForSequenceClassification", "OpenAIGPTLMHeadModel"])
def test_a_class_with_transposed_weights_is_known_by_its_name(architecture):
    told = {one.runtime: (one.verdict, one.reason) for one in rows(GPTQSpec(), architecture=architecture)}
    found = {
        one.runtime: (one.verdict, one.reason) for one in rows(GPTQSpec(), architecture=architecture, all_linear=False)
    }

    assert told == found
    assert [runtime for runtime, (verdict, _) in told.items() if verdict != "no"] == ["srr_core.runtime"]


@pytest.mark.parametrize("rank", [0, 32])
@pytest.mark.parametrize("architecture", ["T5ForConditionalGeneration", "BartForConditionalGeneration"])
def test_servers_refuse_encoder_decoders_that_read_text(architecture, rank):
    found = {one.runtime: one for one in rows(MXIntSpec(num_bits=4), rank=rank, architecture=architecture)}

    served = [one for name, one in found.items() if name.startswith(("vLLM", "SGLang"))]
    assert {(one.verdict, "encoder-decoder that reads text" in one.reason) for one in served} == {("no", True)}
    assert len(served) == 6
    assert found["transformers + compressed-tensors + peft"].verdict == "yes"
    assert found["GPTQ kernels (srr export --to gptq)"].verdict == "untested"


def test_the_decoder_of_an_encoder_decoder_alone_is_no_encoder_decoder():
    assert row(MXIntSpec(num_bits=4), "vLLM, Marlin", architecture="BartForCausalLM").verdict == "untested"


def test_shapes_that_do_not_fit_marlins_tiles_are_padded_by_vllm():
    assert row(MXIntSpec(num_bits=4), "vLLM, Marlin", [(100, 4096), (4096, 96)]).verdict == "untested"


@pytest.mark.parametrize("bits", range(2, 9))
def test_humming_takes_zero_points_of_all_bits(bits):
    assert row(IntegerSpec(num_bits=bits, symmetric=False), "vLLM, Humming").verdict == "untested"


def test_the_flag_of_a_mixture_is_that_of_the_largest_rank_in_its_adapter():
    found = row(MXIntSpec(), "vLLM --enable-lora", rank=64, has_experts=True)
    parts = expert_parts(f"model.layers.0.mlp.experts.0.{name}_proj" for name in ("gate", "up", "down"))
    config = adapter_config(rank=64, target_modules=["o_proj"], base_model=None, task=None, experts=parts.values())
    assert f"--max-lora-rank {max(config['rank_pattern'].values())};" in found.reason
    assert "--max-lora-rank 64;" in row(MXIntSpec(), "vLLM --enable-lora", rank=64).reason


def test_a_doubled_rank_above_the_largest_of_vllm_is_a_no():
    found = row(MXIntSpec(), "vLLM --enable-lora", rank=320, has_experts=True)
    assert (found.verdict, "rank is 640, twice the recipe's" in found.reason) == ("no", True)


@pytest.mark.parametrize(("bits", "said"), [(3, "cannot unpack 3 bits"), (4, "unless VLLM_BATCH_INVARIANT=1")])
def test_what_repeatable_sums_cost_is_said(bits, said):
    assert said in row(MXIntSpec(num_bits=bits), "vLLM --enable-lora").reason


def test_the_plugin_is_for_models_without_experts():
    assert row(MXIntSpec(), "vLLM with the srr plugin").verdict == "untested"
    assert row(MXIntSpec(), "vLLM with the srr plugin", has_experts=True).verdict == "no"


def test_what_was_read_or_tried_names_version_and_day():
    every = [row for row in rows(MXIntSpec(num_bits=4)) if row.evidence != "run"]
    assert every
    assert all(re.search(r"\d+\.\d+", row.versions) for row in every)


def test_rank_above_the_largest_of_vllm_is_a_no():
    assert row(MXIntSpec(), "vLLM --enable-lora", rank=513).verdict == "no"
    assert "--max-lora-rank 64" in row(MXIntSpec(), "vLLM --enable-lora", rank=33).reason


@pytest.mark.parametrize("quantizer", [GPTQSpec(), NormalFloatSpec(), QuIPSharpSpec()])
def test_experts_outside_stock_files_load_with_our_runtime_which_keeps_them_packed(quantizer):
    assert row(quantizer, "transformers", has_experts=True).verdict == "no"
    ours = row(quantizer, "srr_core.runtime", has_experts=True)
    assert (ours.verdict, "experts included" in ours.reason) == ("yes", True)
