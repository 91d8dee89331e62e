"""How a result is loaded follows from the matrix, and what is typed is what the matrix says yes to."""

import pytest

from srr_core.recipe import override
from srr_core.recipe.compatibility import GPTQ, TRANSFORMERS
from srr_core.recipe.gguf_types import LLAMA_CPP
from srr_core.report import BudgetReport, SettingCount
from srr_core.telling.loading import Loading, auto_class, loadings
from srr_core.telling.runtimes import runtimes
from tests.srr_core.telling import reports


def ways(**changes: object) -> dict[str, Loading]:
    return {way.name: way for way in loadings(reports.report(**changes), "org/out")}


def budget(*settings: tuple[int, int], rank: int = 0) -> BudgetReport:
    counts = tuple(SettingCount(num_bits=bits, group_size=group, layers=1) for bits, group in settings)
    return BudgetReport(
        weighting="fisher",
        budget_bytes=1,
        used_bytes=1,
        estimated_cost=0.1,
        rank=rank,
        settings=counts,
        seconds=1.0,
    )


def test_transformers_comes_first_and_the_danger_of_a_missing_peft_is_told() -> None:
    first = loadings(reports.report(), "org/out")[0]

    assert (first.name, first.verdict) == ("transformers", "yes")
    assert "peft" in first.steps[0].text
    assert 'AutoModelForCausalLM.from_pretrained("org/out")' in first.steps[1].text
    assert "Q alone" in first.warning


def test_a_result_without_low_rank_needs_neither_peft_nor_a_lora() -> None:
    made = reports.report(recipe=override(reports.report().recipe, {"rank": 0, "rank_selector": {"kind": "fixed"}}))
    found = {way.name: way for way in loadings(made, "org/out")}

    assert "peft" not in found["transformers"].steps[0].text
    assert found["transformers"].warning == ""
    assert [step.text for step in found["vllm"].steps] == ["vllm serve org/out"]
    assert "vllm-lora" not in found


def test_what_lies_in_our_own_layout_is_loaded_by_us_alone() -> None:
    found = ways(is_stock=False)

    assert {name for name, way in found.items() if way.steps} == {"srr"}
    assert next(iter(found)) == "srr"
    assert found["transformers"].verdict == "no"
    assert "own layout" in found["transformers"].reason


def test_in_a_folder_our_runtime_comes_first_and_takes_the_folder() -> None:
    first, *rest = loadings(reports.report(), "org/out", folder="/data/out")

    assert (first.name, 'load("/data/out")' in first.steps[0].text) == ("srr", True)
    assert all("/data/out" not in step.text for way in rest for step in way.steps)


@pytest.mark.parametrize(
    ("settings", "verdicts"),
    [
        ([(4, 32)], {TRANSFORMERS: "yes", LLAMA_CPP: "yes", GPTQ: "yes"}),
        ([(4, 32), (3, 32)], {TRANSFORMERS: "yes", LLAMA_CPP: "yes", GPTQ: "no"}),
    ],
)
def test_where_layers_differ_the_setting_that_is_least_taken_decides(
    settings: list[tuple[int, int]], verdicts: dict[str, str]
) -> None:
    made = reports.report(budget=budget(*settings))

    assert {row.runtime: row.verdict for row in runtimes(made) if row.runtime in verdicts} == verdicts


@pytest.mark.parametrize(
    ("architecture", "loader"),
    [
        ("LlamaForCausalLM", "AutoModelForCausalLM"),
        ("GPT2LMHeadModel", "AutoModelForCausalLM"),
        ("BertForMaskedLM", "AutoModelForMaskedLM"),
        ("BertModel", "AutoModel"),
        ("T5ForConditionalGeneration", "T5ForConditionalGeneration"),
        ("EncoderDecoderModel", "EncoderDecoderModel"),
        ("Qwen2ForSequenceClassification", "Qwen2ForSequenceClassification"),
        ("", "AutoModel"),
    ],
)
def test_what_is_typed_loads_the_head_too(architecture: str, loader: str) -> None:
    assert auto_class(architecture) == loader


def test_nothing_is_typed_for_a_server_that_does_not_take_the_class() -> None:
    source = reports.report().source.model_copy(update={"architecture": "T5ForConditionalGeneration"})
    found = {way.name: way for way in loadings(reports.report(source=source), "org/out")}

    assert {name for name, way in found.items() if way.steps} == {"transformers", "srr"}
    assert "encoder-decoder that reads text" in found["vllm"].reason
