"""The list of architectures, compared with the transformers it was made from."""

import pytest
import transformers

from srr_core.errors import UnsupportedModelError
from srr_core.models.inputs import takes_text
from srr_core.recipe.architectures import (
    ARCHITECTURES,
    ENCODER_DECODERS,
    NOT_RUN,
    TRANSFORMERS,
    TRANSPOSED,
    check_config,
    is_encoder_decoder,
)
from tests.srr_core.recipe.names_of_transformers import every_class, in_halves, not_run, supported_names, transposed
from tests.zoo.sweep import read_table


def _is_refused(name: str) -> bool:
    try:
        check_config({"architectures": [name]})
    except UnsupportedModelError:
        return True
    return False


def test_the_lists_are_those_of_the_installed_transformers() -> None:
    renew = "run `python -m tests.srr_core.recipe.names_of_transformers`"

    assert transformers.__version__ == TRANSFORMERS, renew
    assert supported_names() == ARCHITECTURES, renew
    assert in_halves() == ENCODER_DECODERS, renew
    assert not_run() == NOT_RUN, renew
    assert transposed() == TRANSPOSED, renew


def test_no_class_passes_that_the_core_refuses_for_what_it_reads() -> None:
    passing = [kind.__name__ for kind in every_class() if not takes_text(kind) and not _is_refused(kind.__name__)]
    assert not passing


def test_every_class_that_the_census_finished_passes() -> None:
    finished = {cells[2] for cells in read_table().values() if cells[3] in {"stock", "own"}}
    assert not [name for name in sorted(finished) if _is_refused(name)]


def test_every_class_that_the_census_refused_whatever_its_sizes_is_refused() -> None:
    of_sizes = ("only ", "config.json gives ")
    refused = {
        cells[2] for cells in read_table().values() if cells[3] == "refused" and not cells[7].startswith(of_sizes)
    }
    assert not [name for name in sorted(refused) if not _is_refused(name)]


def test_a_class_that_cannot_be_compressed_can_be_measured() -> None:
    config = {"architectures": ["ProphetNetForCausalLM"]}

    check_config(config, to_compress=False)

    with pytest.raises(UnsupportedModelError, match="its blocks cannot be run one at a time"):
        check_config(config)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, True),
        ({"architectures": ["T5ForConditionalGeneration"]}, True),
        ({"architectures": ["BartForCausalLM"], "is_encoder_decoder": True}, False),
        ({"architectures": ["LlamaForCausalLM"]}, False),
        ({}, False),
        (None, False),
    ],
)
def test_an_encoder_decoder_is_told_by_its_class(config: dict[str, object] | None, expected: object) -> None:
    assert is_encoder_decoder(config) is expected


@pytest.mark.parametrize(
    "name",
    [
        "LlamaForCausalLM",
        "Qwen3MoeForCausalLM",
        "BertModel",
        "GPT2LMHeadModel",
        "T5ForConditionalGeneration",
        "T5EncoderModel",
        "Mamba2ForCausalLM",
        "JambaForCausalLM",
        "RecurrentGemmaForCausalLM",
    ],
)
def test_models_of_text_pass(name: str) -> None:
    check_config({"architectures": [name]})


def test_an_encoder_decoder_passes_whatever_its_configuration_says_of_it() -> None:
    check_config({"architectures": ["BartForCausalLM"], "is_encoder_decoder": True})


@pytest.mark.parametrize(
    "name",
    [
        "WhisperForConditionalGeneration",
        "WhisperModel",
        "VisionEncoderDecoderModel",
        "Blip2ForConditionalGeneration",
        "UNet2DConditionModel",
        "ViTForImageClassification",
        "CLIPVisionModel",
        "FooBarForCausalLM",
    ],
)
def test_other_architectures_are_refused_by_name_and_with_what_to_choose(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"{name} is not among .* Choose a model"):
        check_config({"architectures": [name]})


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "names no architecture"),
        ({"architectures": []}, "names no architecture"),
        ({"architectures": "LlamaForCausalLM"}, "names no architecture"),
        ({"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "awq"}}, "already .awq."),
    ],
)
def test_what_a_configuration_gives_away_is_refused(config: dict[str, object] | None, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        check_config(config)
