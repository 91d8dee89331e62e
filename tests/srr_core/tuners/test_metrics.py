"""Scores equal those of scikit-learn, scipy and closed forms, also where they are hard to define."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, matthews_corrcoef

from srr_core.recipe.tuning_tasks import GLUE_TASKS
from srr_core.tuners.metrics import SCORES, accuracy, matthews, pearson, pearson_spearman, spearman

PAIRS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40).map(
    lambda pairs: torch.tensor(pairs, dtype=torch.float64).unbind(1)
)


@given(PAIRS)
def test_correlations_equal_those_of_scipy(pair):
    first, second = pair
    if first.unique().numel() < 2 or second.unique().numel() < 2:
        assert pearson(first, second) == spearman(first, second) == 0
        return
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first, second).statistic, abs=1e-12)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    assert pearson_spearman(first, second) == pytest.approx((pearson(first, second) + spearman(first, second)) / 2)


CLASSES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=40).map(
    # Two classes at least: of one alone scikit-learn warns.
    lambda pairs: torch.tensor([*pairs, (0, 1), (1, 0)]).unbind(1)
)


@given(CLASSES)
def test_scores_of_classes_equal_those_of_scikit_learn(pair):
    predicted, true = pair
    assert accuracy(predicted, true) == pytest.approx(accuracy_score(true, predicted), abs=1e-12)
    assert matthews(predicted, true) == pytest.approx(matthews_corrcoef(true, predicted), abs=1e-12)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_correlation_of_two_classes_is_that_of_the_confusion_table(tp, fp, fn, tn):
    predicted = torch.tensor([1] * (tp + fp) + [0] * (fn + tn) + [0, 1])
    true = torch.tensor([1] * tp + [0] * fp + [1] * fn + [0] * tn + [0, 1])
    tp, tn = tp + 1, tn + 1
    expected = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert matthews(predicted, true) == pytest.approx(expected, abs=1e-12)


def test_correlation_of_three_classes_is_the_published_statistic():
    # By hand from the confusion table [[2, 1, 0], [0, 2, 1], [1, 0, 3]], rows true: R_K = (7·10 - 33) / 66.5...
    true = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    predicted = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 0])
    correct, total, rows, columns = 7, 10, (3, 3, 4), (3, 3, 4)
    joint = sum(a * b for a, b in zip(rows, columns, strict=True))
    spread = (total**2 - sum(a * a for a in rows)) * (total**2 - sum(b * b for b in columns))
    assert matthews(predicted, true) == pytest.approx((correct * total - joint) / spread**0.5)


def test_constant_predictions_have_no_correlation():
    constant, true = torch.zeros(4), torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert matthews(constant, true) == pearson(constant, true) == spearman(constant, true) == 0
    assert accuracy(constant, true) == 0.5


def test_every_task_of_glue_has_its_score():
    assert {metric for *_, metric in GLUE_TASKS.values()} <= set(SCORES)
