"""The model card: what it promises must be in the report."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from srr_core.recipe import Recipe, named_recipe, override
from srr_core.telling.verdict import verdict
from tests.srr_core.telling import reports as compared
from tests.worker.artifacts import SHA, layer, report, source
from worker.card import model_card
from worker.card_pictures import write_card


def _metadata(text: str) -> dict[str, object]:
    return dict(ModelCard(text).data.to_dict())


def test_the_metadata_says_what_it_was_made_from() -> None:
    data = _metadata(model_card(report(), repo_id="alice/out", source=source()))

    assert data["base_model"] == "acme/base"
    assert data["base_model_relation"] == "quantized"
    assert data["library_name"] == "transformers"
    assert data["license"] == "apache-2.0"
    assert data["language"] == ["en"]
    assert data["pipeline_tag"] == "text-generation"
    assert {"srr", "quantized", "mxint", "3-bit"} <= set(data["tags"])  # type: ignore[call-overload]


def test_a_license_of_its_own_keeps_name_and_link() -> None:
    data = _metadata(
        model_card(
            report(),
            repo_id="alice/out",
            source=source(license="other", license_name="base-community", license_link="LICENSE"),
        )
    )

    assert (data["license"], data["license_name"], data["license_link"]) == ("other", "base-community", "LICENSE")


def test_a_source_without_license_is_said_to_have_none() -> None:
    text = model_card(report(), repo_id="alice/out", source=source(license=None))

    assert "license" not in _metadata(text)
    assert "names no licence" in text


def test_the_evaluation_is_in_the_model_index() -> None:
    card = ModelCard(model_card(report(), repo_id="alice/out", source=source()))

    assert card.data.model_name == "alice/out"
    assert card.data.eval_results is not None
    result = card.data.eval_results[0]
    assert (result.metric_type, result.metric_name, result.metric_value) == ("perplexity", "token_perplexity@64", 37.95)


def test_without_an_evaluation_none_is_claimed() -> None:
    text = model_card(report(measurements=()), repo_id="alice/out", source=source())

    assert "model-index" not in text
    assert "No text was given to evaluate on" in text
    assert "--evaluation-text" not in text


def test_the_table_shows_source_and_result_side_by_side() -> None:
    text = model_card(report(), repo_id="alice/out", source=source())

    assert "| token_perplexity@64, lower is better | 37.040 | 37.950 |" in text
    assert "| Weight files | 12.4 MiB | 4.9 MiB |" in text
    assert "disjoint windows of 64 tokens" in text


def test_the_worst_layers_come_first_and_the_table_stays_short() -> None:
    text = model_card(report(), repo_id="alice/out", source=source())

    shown = re.findall(r"^\| `(model\.layers\.\d+)\.mlp", text, flags=re.MULTILINE)
    assert shown == [f"model.layers.{index}" for index in range(11, 1, -1)]
    assert "10 layers with the largest error of 12" in text


def test_the_danger_of_a_missing_peft_is_spelled_out() -> None:
    text = model_card(report(), repo_id="alice/out", source=source())

    assert "Install `peft`" in text
    assert '"compressed-tensors>=0.18" peft' in text
    assert 'AutoModelForCausalLM.from_pretrained("alice/out")' in text


def test_a_result_without_correction_does_not_speak_of_one() -> None:
    text = model_card(report("weight-only"), repo_id="alice/out", source=source())

    assert "Install `peft`" not in text
    assert "+ L·R" not in text.split("## Results", maxsplit=1)[0]


def test_a_layout_of_our_own_is_loaded_by_our_own_package() -> None:
    text = model_card(report(), repo_id="alice/out", source=source(), quant_method="srr")

    assert "from srr_core.runtime import load" in text
    assert "from transformers import" not in text


def test_the_recipe_in_the_card_is_the_recipe() -> None:
    made = report()
    text = model_card(made, repo_id="alice/out", source=source())

    block = re.search(r"```json\n(.*?)\n```", text, flags=re.DOTALL)
    assert block is not None
    assert Recipe.model_validate(json.loads(block[1])) == made.recipe


def test_the_provenance_pins_commit_versions_and_digest() -> None:
    made = report()
    text = model_card(made, repo_id="alice/out", source=source())

    assert SHA in text
    assert f"--revision {SHA}" in text
    assert "torch 2.13.0" in text
    assert "srr_core 1.0.0" in text
    assert made.recipe.digest() in text


def test_a_source_with_a_page_is_linked_and_one_without_is_not() -> None:
    linked = model_card(report(), repo_id="alice/out", source=source())
    local = model_card(report(), repo_id="alice/out", source=source(url=None))

    assert "[acme/base](https://hub.example/acme/base)" in linked
    assert f"srr compress acme/base artifact --revision {SHA}" in linked
    assert "https://" not in local
    assert "srr compress FOLDER_OF_THE_SOURCE artifact --recipe" in local


@pytest.mark.parametrize("architecture", ["BertModel", "BertForMaskedLM"])
def test_an_encoder_is_loaded_as_one(architecture: str) -> None:
    made = report()
    encoder = made.model_copy(update={"source": made.source.model_copy(update={"architecture": architecture})})

    text = model_card(encoder, repo_id="alice/out", source=source())

    assert "AutoModelForCausalLM" not in text
    assert f"import {'AutoModelForMaskedLM' if 'Masked' in architecture else 'AutoModel'}," in text


def test_words_of_a_stranger_cannot_end_the_metadata_or_start_markup() -> None:
    hostile = "mit\n---\n# Free money\n<script>alert(1)</script>"

    text = model_card(report(), repo_id="alice/out", source=source(license=hostile))

    assert _metadata(text)["license"] == hostile
    assert "<script>" not in text.split("\n---\n", maxsplit=1)[1].split("# out", maxsplit=1)[1]
    assert "\n# Free money" not in text.split("# out", maxsplit=1)[1]


def test_notes_of_the_run_are_kept() -> None:
    text = model_card(report(notes=("damping was raised\n# twice",)), repo_id="alice/out", source=source())

    assert "* Noted: damping was raised # twice" in text


def test_the_same_report_makes_the_same_card() -> None:
    first = model_card(report(), repo_id="alice/out", source=source())

    assert model_card(report(), repo_id="alice/out", source=source()) == first


def test_tuning_and_serving_are_told_with_the_name_of_the_repository() -> None:
    text = model_card(report(), repo_id="alice/out", source=source())

    assert "`get_peft_model` on this model loses L·R" in text
    assert 'model.set_adapter(["default", "tuned"])' in text
    assert 'PeftModel.from_pretrained(model, "alice/out").merge_and_unload()' in text
    assert "vllm serve alice/out\n" in text
    assert "--max-lora-rank 32 --lora-modules corrected=alice/out" in text


def test_a_mixture_is_served_as_a_lora_of_the_doubled_rank() -> None:
    experts = (layer("model.layers.0.mlp.experts.0.up_proj", 0.1),)
    text = model_card(report(layers=experts), repo_id="alice/out", source=source())

    assert "--max-lora-rank 64" in text
    assert "pip install srr-compression\n" not in text


def test_without_a_correction_there_is_nothing_to_lose() -> None:
    text = model_card(report("gptq"), repo_id="alice/out", source=source())

    assert "How to fine-tune" not in text
    assert "--enable-lora" not in text


@pytest.mark.parametrize(("bits", "is_said"), [(3, True), (4, False)])
def test_bits_that_vllm_and_transformers_pack_otherwise_ask_for_two_environments(bits: int, is_said: bool) -> None:
    made = report().model_copy(update={"recipe": override(named_recipe("srr"), {"quantizer.num_bits": bits})})
    text = model_card(made, repo_id="alice/out", source=source())

    assert ("an environment each" in text) is is_said


def test_tags_of_the_sources_card_are_kept_and_no_markup_gets_in() -> None:
    tags = ["chat", "code", "x\n---\n", 7]
    data = _metadata(model_card(report(), repo_id="alice/out", source=source(card={"tags": tags})))

    assert data["tags"][-2:] == ["chat", "code"]  # type: ignore[index]


def test_the_card_begins_with_the_verdict_of_the_report_and_its_picture() -> None:
    made = compared.report()
    text = model_card(made, repo_id="alice/out", source=source())

    assert f"**{verdict(made).sentence}**" in text
    assert text.index("## Was it worth it?") < text.index("## How to load")
    assert "](pictures/frontier.svg)" in text
    assert "| `gptq` | 4.8 MiB | 6.15 | 4.25 | 0.0187 ± 0.0002 | 38.500 |" in text


def test_every_file_that_a_card_names_lies_beside_it(tmp_path: Path) -> None:
    made = compared.report()
    text = model_card(made, repo_id="alice/out", source=source())

    write_card(tmp_path, text, made)

    named = set(re.findall(r"\]\((pictures/[^)]+)\)", text))
    assert named == {
        f"pictures/{name}.{ending}" for name in ("frontier", "size", "errors") for ending in ("svg", "csv")
    }
    assert all((tmp_path / name).is_file() for name in named)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text


def test_doubts_are_in_the_card() -> None:
    text = model_card(compared.report(evaluation_seen=1.0), repo_id="alice/out", source=source())

    assert "* 100 % of the windows it was measured on lie in the text it was calibrated on" in text


def test_the_card_of_an_encoder_decoder_has_no_command_for_a_server_that_refuses_it() -> None:
    made = compared.report()
    made = made.model_copy(
        update={"source": made.source.model_copy(update={"architecture": "T5ForConditionalGeneration"})}
    )
    text = model_card(made, repo_id="alice/out", source=source())

    assert "T5ForConditionalGeneration.from_pretrained" in text
    assert "vllm serve" not in text
    assert "vLLM does not serve this model: it has served no encoder-decoder that reads text" in text
