"""The list of architectures, compared with the transformers it was made from."""

import pytest
import transformers

from srr_core.errors import UnsupportedModelError
from srr_core.recipe.architectures import ARCHITECTURES, TRANSFORMERS, check_config
from tests.srr_core.recipe.names_of_transformers import supported_names


def test_the_list_is_that_of_the_installed_transformers() -> None:
    renew = "run `python -m tests.srr_core.recipe.names_of_transformers`"

    assert transformers.__version__ == TRANSFORMERS, renew
    assert supported_names() == ARCHITECTURES, renew


@pytest.mark.parametrize(
    "name", ["LlamaForCausalLM", "Qwen3MoeForCausalLM", "BertModel", "GPT2LMHeadModel", "T5ForConditionalGeneration"]
)
def test_models_of_text_pass(name: str) -> None:
    check_config({"architectures": [name]})


def test_an_encoder_decoder_passes_whatever_its_configuration_says_of_it() -> None:
    check_config({"architectures": ["BartForCausalLM"], "is_encoder_decoder": True})


@pytest.mark.parametrize(
    "name",
    [
        "MambaForCausalLM",
        "FalconMambaForCausalLM",
        "RwkvForCausalLM",
        "RecurrentGemmaForCausalLM",
        "WhisperForConditionalGeneration",
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
