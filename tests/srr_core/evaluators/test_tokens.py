"""What two models make of every token, against the stock models run whole."""

from pathlib import Path

import pytest
import torch

from srr_core.errors import StopRequested
from srr_core.evaluators.tokens import VOCABULARY_CHUNK, TokenScores, divergence, score_tokens
from tests.pico import ARCHITECTURES
from tests.srr_core.evaluators.pairs import LENGTH, noisy_copy, opened, source_folder, stock_log_probabilities, windows

CAUSAL = [name for name in ARCHITECTURES if "ForCausalLM" in name or "LMHead" in name]


def scores(source: Path, compressed: Path, **options: int) -> TokenScores:
    return score_tokens(opened(source), opened(compressed), windows(), batch_size=2, **options)


@pytest.mark.parametrize("name", CAUSAL)
def test_scores_are_those_of_the_stock_models(name: str, tmp_path: Path) -> None:
    source = source_folder(tmp_path, name)
    compressed = noisy_copy(source, tmp_path / "noisy", only="weight")
    ids = windows().ids
    before, after = stock_log_probabilities(source, ids), stock_log_probabilities(compressed, ids)

    found = scores(source, compressed, num_paired=5)

    expected = (before.exp() * (before - after)).sum(-1)
    assert float(expected.mean()) > 1e-4
    torch.testing.assert_close(found.divergences.double(), expected, rtol=1e-3, atol=1e-6)
    targets = ids[:, 1:, None]
    torch.testing.assert_close(found.source_losses.double(), -before.gather(-1, targets)[..., 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        found.compressed_losses.double(), -after.gather(-1, targets)[..., 0], rtol=1e-4, atol=1e-4
    )
    assert torch.equal(found.agreements, before.argmax(-1) == after.argmax(-1))


def test_a_model_does_not_differ_from_itself(tmp_path: Path) -> None:
    source = source_folder(tmp_path)

    found = scores(source, source, num_paired=5)

    assert torch.equal(found.divergences, torch.zeros(5, LENGTH - 1))
    assert bool(found.agreements.all())
    assert torch.equal(found.source_losses, found.compressed_losses)


@pytest.mark.parametrize("only", ["lm_head", "embed_tokens", "model.norm"])
def test_each_model_ends_with_its_own_head(only: str, tmp_path: Path) -> None:
    source = source_folder(tmp_path)
    compressed = noisy_copy(source, tmp_path / "noisy", only=only, size=0.1)
    before, after = (stock_log_probabilities(folder, windows().ids) for folder in (source, compressed))

    found = scores(source, compressed, num_paired=5)

    torch.testing.assert_close(
        found.divergences.double(), (before.exp() * (before - after)).sum(-1), rtol=1e-3, atol=1e-6
    )


def test_windows_that_are_not_paired_have_the_same_losses(tmp_path: Path) -> None:
    source = source_folder(tmp_path)
    compressed = noisy_copy(source, tmp_path / "noisy")
    every = scores(source, compressed, num_paired=5)

    found = scores(source, compressed, num_paired=2)

    assert torch.equal(found.source_losses, every.source_losses)
    assert torch.equal(found.compressed_losses, every.compressed_losses)
    assert torch.equal(found.divergences, every.divergences[:2])
    assert scores(source, compressed).divergences.shape == (0, LENGTH - 1)


def test_logits_come_a_few_positions_at_a_time(tmp_path: Path) -> None:
    source = source_folder(tmp_path)
    compressed = noisy_copy(source, tmp_path / "noisy")
    whole = scores(source, compressed, num_paired=2)
    model = opened(source)

    found = scores(source, compressed, num_paired=2, logit_bytes=7 * 4 * model.vocabulary_size)

    torch.testing.assert_close(found.divergences, whole.divergences, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.compressed_losses, whole.compressed_losses, rtol=1e-5, atol=1e-5)


def test_both_models_are_run_once_and_can_be_stopped_at_any_block(tmp_path: Path) -> None:
    source = source_folder(tmp_path)
    calls: list[object] = []

    def stop(index: object) -> None:
        calls.append(index)
        if len(calls) == 3:
            raise StopRequested("enough")

    with pytest.raises(StopRequested):
        score_tokens(opened(source), opened(source), windows(), batch_size=2, num_paired=1, after_block=stop)
    score_tokens(opened(source), opened(source), windows(), batch_size=2, num_paired=1, after_block=calls.append)

    assert calls == [1, 2, 1, 1, 2, 1, 2]


def test_divergence_over_several_chunks_of_the_vocabulary_is_that_of_the_whole_softmax() -> None:
    generator = torch.Generator().manual_seed(3)
    mine = 3 * torch.randn(6, 2 * VOCABULARY_CHUNK + 5, generator=generator)
    other = mine + 0.1 * torch.randn(mine.shape, generator=generator)
    before, after = mine.double().log_softmax(-1), other.double().log_softmax(-1)

    found = divergence(mine, other)

    torch.testing.assert_close(found.double(), (before.exp() * (before - after)).sum(-1), rtol=1e-4, atol=0)


def test_divergence_is_never_below_nothing() -> None:
    mine = torch.randn(200, 500, generator=torch.Generator().manual_seed(4))

    assert float(divergence(mine, mine + 1e-4 * torch.randn(200, 500)).min()) >= -1e-6
    assert torch.equal(divergence(mine, mine), torch.zeros(200))


def test_tokens_that_both_models_rule_out_count_nothing() -> None:
    mine = torch.tensor([[1.0, 2.0, -torch.inf]])

    found = divergence(mine, torch.tensor([[2.0, 1.0, -torch.inf]]))

    torch.testing.assert_close(found, divergence(mine[:, :2], torch.tensor([[2.0, 1.0]])))
