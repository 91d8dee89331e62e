"""What every evaluator of the table obeys, and what each of them says."""

import math
from pathlib import Path

import pytest

from srr_core.evaluators import EVALUATORS
from srr_core.recipe import DivergenceSpec, EvaluatorBase, PerplexitySpec
from srr_core.report import Measurement
from tests.srr_core.evaluators.pairs import noisy_copy, pair, source_folder, stock_log_probabilities, windows

every_evaluator = pytest.mark.parametrize("spec", [spec() for spec in EVALUATORS], ids=repr)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    source = source_folder(tmp_path)
    return source, noisy_copy(source, tmp_path / "noisy")


def measured(spec: EvaluatorBase, source: Path, compressed: Path, *, count: int = 5) -> tuple[Measurement, ...]:
    return tuple(EVALUATORS.build(spec).measure(pair(source, compressed, count=count)))


@every_evaluator
def test_a_model_measured_against_itself_differs_by_nothing(spec: EvaluatorBase, folders: tuple[Path, Path]) -> None:
    rows = measured(spec, folders[0], folders[0])

    assert rows
    assert [row.compressed for row in rows] == [row.source for row in rows]
    assert {row.difference for row in rows} <= {None, 0.0}
    assert {row.standard_error for row in rows} <= {None, 0.0}


@every_evaluator
def test_the_same_pair_gives_the_same_numbers_and_they_travel(spec: EvaluatorBase, folders: tuple[Path, Path]) -> None:
    rows = measured(spec, *folders)

    assert rows == measured(spec, *folders)
    assert [Measurement.model_validate_json(row.model_dump_json()) for row in rows] == list(rows)
    assert len({row.metric for row in rows}) == len(rows)
    assert all(row.title and row.protocol and row.evaluator == spec.kind for row in rows)


@every_evaluator
def test_a_worse_model_is_worse_in_the_direction_that_is_said(
    spec: EvaluatorBase, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    worse = measured(spec, folders[0], noisy_copy(folders[0], tmp_path / "worse", only="weight", size=0.5))
    better = measured(spec, *folders)

    signs = {"lower": 1, "higher": -1}
    assert all(
        signs[row.direction] * (row.compressed - other.compressed) > 0
        for row, other in zip(worse, better, strict=True)
        if row.evaluator != "perplexity"  # of a random model, which noise does not make worse
    )


@every_evaluator
def test_one_window_gives_no_standard_error(spec: EvaluatorBase, folders: tuple[Path, Path]) -> None:
    assert {row.standard_error for row in measured(spec, *folders, count=1)} == {None}


def test_perplexity_comes_with_the_paired_difference_of_the_losses(folders: tuple[Path, Path]) -> None:
    (row,) = measured(PerplexitySpec(), *folders)
    ids = windows().ids[:, 1:, None]
    before, after = (-stock_log_probabilities(folder, windows().ids).gather(-1, ids)[..., 0] for folder in folders)

    assert row.source == pytest.approx(math.exp(float(before.mean())), rel=1e-5)
    assert row.compressed == pytest.approx(math.exp(float(after.mean())), rel=1e-5)
    assert row.difference == pytest.approx(float((after - before).mean()), rel=1e-2, abs=1e-6)
    by_window = (after - before).mean(1)
    assert row.standard_error == pytest.approx(float(by_window.std()) / math.sqrt(5), rel=1e-2)
    assert (row.tokens, row.metric) == (75, "token_perplexity@16")


def test_a_difference_below_two_standard_errors_is_not_told_apart(folders: tuple[Path, Path]) -> None:
    (row,) = measured(PerplexitySpec(), *folders)

    assert row.model_copy(update={"difference": 0.19, "standard_error": 0.1}).is_told_apart is False
    assert row.model_copy(update={"difference": -0.2, "standard_error": 0.1}).is_told_apart is True
    assert row.model_copy(update={"difference": None}).is_told_apart is True


def test_divergence_is_over_the_windows_it_asks_for(folders: tuple[Path, Path]) -> None:
    divergence, agreement = measured(DivergenceSpec(num_sequences=2), *folders)

    assert divergence.tokens == agreement.tokens == 30
    assert divergence.text is not None
    assert divergence.text.sequences == 2
    assert divergence.details["median"] <= divergence.details["99th percentile"] <= divergence.details["largest"]
    assert "2 disjoint windows of 16 tokens" in divergence.protocol
