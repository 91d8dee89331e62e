"""Numbers that are none: in weights, embeddings, activations and projections, each refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from srr_core.errors import NonFiniteWeightError, NumericalError, SrrError
from srr_core.linalg.truncated_svd import SVDFactors, truncated_svd
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, Recipe, override
from tests.pico import WINDOW, build_checkpoint, write_text

WINDOWS = {"calibration": {"num_sequences": 8, "sequence_length": WINDOW, "batch_size": 3}, "evaluation": None}


def small(name: str = "srr") -> Recipe:
    return override(PRESETS[name], {**WINDOWS, "rank": 4})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "source")


def _poison(value: float) -> Any:
    def change(model: Any) -> None:
        model.model.layers[1].mlp.up_proj.weight[3, 5] = value

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_name(value: float, tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source", change=_poison(value))
    with pytest.raises(SrrError, match=r"model\.layers\.1\.mlp") as caught:
        compress(source, small(), tmp_path / "out", calibration_text=text)
    assert isinstance(caught.value, NonFiniteWeightError)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "norm", "layer"),
    [
        ("LlamaForCausalLM", "input_layernorm", r"self_attn\.q_proj"),
        ("MixtralForCausalLM", "post_attention_layernorm", r"block_sparse_moe\.experts\.\d\.w\d"),
    ],
)
def test_an_activation_that_overflows_is_refused_by_the_name_of_the_layer(
    name: str, norm: str, layer: str, tmp_path: Path, text: Path
) -> None:
    def change(model: Any) -> None:
        model.get_parameter(f"model.layers.1.{norm}.weight").fill_(1e25)

    source = build_checkpoint(tmp_path / "source", name, change=change)
    with pytest.raises(NumericalError, match=rf"layer model\.layers\.1\.{layer}: its input"):
        compress(source, small(), tmp_path / "out", calibration_text=text)


def test_an_embedding_that_is_not_finite_is_refused_though_no_token_meets_it(tmp_path: Path, text: Path) -> None:
    def change(model: Any) -> None:
        model.model.embed_tokens.weight[-1] = float("nan")

    source = build_checkpoint(tmp_path / "source", change=change)
    with pytest.raises(NonFiniteWeightError, match="embed_tokens"):
        compress(source, small(), tmp_path / "out", calibration_text=text)


def test_a_projection_that_grows_fails_the_run_by_the_name_of_its_layer(
    tmp_path: Path, text: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skewed(matrix: torch.Tensor, rank: int, **options: Any) -> SVDFactors:
        found = truncated_svd(matrix, rank, **options)
        return SVDFactors(3 * found.left, found.singular_values)

    monkeypatch.setattr("srr_core.srr.truncated_svd", skewed)
    with pytest.raises(NumericalError, match=r"layer model\.layers\.0\.self_attn\.q_proj: a projection of length"):
        compress(source, small("qera-exact"), tmp_path / "out", calibration_text=text)
    assert not (tmp_path / "out").exists()
