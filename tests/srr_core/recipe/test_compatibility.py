"""The matrix says no more than was run or read, and names the obstacle."""

import pytest

from srr_core.recipe import GPTQSpec, IntegerSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec, Recipe
from srr_core.recipe.compatibility import GGUF_ARCHITECTURES, compatibility, rope_type

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
def test_codes_without_a_uniform_grid_load_with_our_runtime_only(quantizer):
    assert [row.runtime for row in rows(quantizer, rank=0) if row.verdict == "yes"] == [
        "srr_core.runtime",
        "vLLM --enable-lora (L·R)",
    ]


@pytest.mark.parametrize(
    ("quantizer", "start", "reason"),
    [
        (MXIntSpec(num_bits=3), "vLLM, Marlin", "4 or 8 bits, not 3"),
        (MXIntSpec(num_bits=4, block_size=16), "vLLM, Marlin", "32, 64 or 128, not 16"),
        (IntegerSpec(symmetric=False), "vLLM, Humming", "symmetric"),
        (MXIntSpec(num_bits=3), "vLLM (CPU)", "4 bits, not 3"),
        (MXIntSpec(num_bits=3, block_size=16), "llama.cpp", "exponent_window <= 5"),
        (MXIntSpec(num_bits=2, block_size=16, exponent_window=4), "llama.cpp", "exponent_window <= 3"),
        (MXIntSpec(num_bits=4, block_size=16), "llama.cpp", "Q6_K is exact only with quantizer.exponent_window <= 7"),
        (MXIntSpec(num_bits=6, block_size=16, exponent_window=8), "llama.cpp", "exponent_window <= 7"),
        (IntegerSpec(symmetric=False), "llama.cpp", "offset"),
        (MXIntSpec(num_bits=8, block_size=16), "llama.cpp", "groups of 32"),
        (MXIntSpec(num_bits=5), "GPTQ kernels", "2, 3, 4 or 8 bits, not 5"),
        (GPTQSpec(grid=IntegerSpec(symmetric=False)), "GPTQ kernels", "symmetric"),
    ],
)
def test_obstacle_is_named(quantizer, start, reason):
    found = row(quantizer, start)
    assert found.verdict == "no"
    assert reason in found.reason


def test_window_makes_small_blocks_exact_in_gguf():
    assert row(MXIntSpec(num_bits=3, block_size=16, exponent_window=5), "llama.cpp").reason.startswith("Q3_K")


@pytest.mark.parametrize("architecture", GGUF_ARCHITECTURES)
def test_architectures_of_the_gguf_export_are_a_yes(architecture):
    assert row(MXIntSpec(), "llama.cpp", architecture=architecture).verdict == "yes"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"architecture": "Gemma3ForCausalLM"}, "Qwen2ForCausalLM or Qwen3ForCausalLM, not Gemma3ForCausalLM"),
        ({"architecture": ""}, "not a model without a class"),
        ({"rope": "llama3"}, "rotary embeddings of type llama3"),
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
    [([(100, 4096)], "vLLM, Marlin"), ([(4096, 96)], "vLLM, Marlin"), ([(4096, 75)], "transformers")],
)
def test_shapes_a_runtime_does_not_take_are_a_no(shapes, start):
    assert row(MXIntSpec(num_bits=4), start, shapes).verdict == "no"


def test_transposed_weights_are_left_to_our_runtime():
    assert row(MXIntSpec(), "transformers", all_linear=False).verdict == "no"


def test_rank_above_the_largest_of_vllm_is_a_no():
    assert row(MXIntSpec(), "vLLM --enable-lora", rank=513).verdict == "no"
    assert "--max-lora-rank 64" in row(MXIntSpec(), "vLLM --enable-lora", rank=33).reason


@pytest.mark.parametrize("quantizer", [GPTQSpec(), NormalFloatSpec(), QuIPSharpSpec()])
def test_experts_outside_stock_files_load_with_our_runtime_which_keeps_them_packed(quantizer):
    assert row(quantizer, "transformers", has_experts=True).verdict == "no"
    ours = row(quantizer, "srr_core.runtime", has_experts=True)
    assert (ours.verdict, "experts included" in ours.reason) == ("yes", True)
