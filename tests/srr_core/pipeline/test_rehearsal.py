"""A class that would be refused late is refused in the plan; a class that works is not."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from srr_core.errors import UnsupportedModelError
from srr_core.pipeline import compress
from srr_core.pipeline.plan import RunPlan, plan_run
from srr_core.pipeline.rehearsal import rehearse
from srr_core.recipe import named_recipe, override
from tests.pico import ARCHITECTURES, build_checkpoint, byte_tokenizer, write_text

WINDOWS = {"num_sequences": 2, "sequence_length": 16, "batch_size": 2}
RECIPE = override(named_recipe("srr"), {"rank": 4, "calibration": WINDOWS, "evaluation": WINDOWS})


def _plan(source: Path, folder: Path, **changes: Any) -> RunPlan:
    text = write_text(folder / "text.txt")
    return plan_run(
        source,
        override(RECIPE, changes),
        folder / "out",
        model_id=None,
        revision=None,
        artifact_id=None,
        calibration_text=text,
        evaluation_text=text,
        device="cpu",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_class_that_is_compressed_passes_its_rehearsal(name: str, tmp_path: Path, caplog: Any) -> None:
    plan = _plan(build_checkpoint(tmp_path / "source", name), tmp_path)
    before = torch.random.get_rng_state()

    with caplog.at_level("INFO", "srr_core.pipeline.rehearsal"):
        rehearse(plan, smallest=0)

    assert not caplog.records  # it was neither left out nor ended early
    assert torch.equal(before, torch.random.get_rng_state())
    assert not (tmp_path / "out.partial").exists()


LARGE = 80_000
"""Rows of an embedding that make a model of two blocks large enough to be rehearsed."""


def _reversible(folder: Path, rows: int) -> Path:
    """Write a model whose blocks take two streams and give both back, which shows only when it runs."""
    config = transformers.ReformerConfig(
        vocab_size=rows,
        hidden_size=256,
        feed_forward_size=256,
        attn_layers=["local", "local"],
        num_attention_heads=4,
        attention_head_size=64,
        local_attn_chunk_length=16,
        axial_pos_embds=False,
        is_decoder=True,
    )
    transformers.ReformerModelWithLMHead(config).to(torch.bfloat16).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_a_class_that_cannot_be_run_block_by_block_is_refused_in_the_plan(tmp_path: Path) -> None:
    source, text = _reversible(tmp_path / "source", LARGE), write_text(tmp_path / "text.txt")
    stages: list[str] = []

    with pytest.raises(
        UnsupportedModelError,
        match=r"ReformerModelWithLMHead .* tiny copy of it failed in the stage 'calibrate': ",
    ):
        compress(
            source,
            RECIPE,
            tmp_path / "out",
            calibration_text=text,
            on_progress=lambda progress: stages.append(progress.stage.value),
        )

    assert set(stages) == {"plan"}
    assert not (tmp_path / "out.partial").exists()


def test_a_budget_that_cannot_be_spent_on_a_class_is_found_in_its_rehearsal(tmp_path: Path) -> None:
    source = tmp_path / "source"
    config = transformers.XLMConfig(vocab_size=320, emb_dim=64, n_layers=2, n_heads=4, max_position_embeddings=64)
    transformers.XLMWithLMHeadModel(config).to(torch.bfloat16).save_pretrained(source)
    byte_tokenizer().save_pretrained(source)
    budget = {"target_bits": 4.1, "num_bits": [3, 4], "group_sizes": [16], "num_sequences": 4, "sequence_length": 16}

    rehearse(_plan(source, tmp_path), smallest=0)

    with pytest.raises(UnsupportedModelError, match=r"failed in the stage 'search': the model works on the hidden"):
        rehearse(_plan(source, tmp_path, budget=budget), smallest=0)


def test_a_small_model_is_not_rehearsed_for_its_run_is_one(tmp_path: Path) -> None:
    plan = _plan(_reversible(tmp_path / "source", 320), tmp_path)

    rehearse(plan)

    with pytest.raises(UnsupportedModelError):
        rehearse(plan, smallest=0)
