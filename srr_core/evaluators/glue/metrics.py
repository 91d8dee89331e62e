"""The metrics of GLUE: accuracy, F1, Matthews, Pearson and Spearman, with standard errors by the bootstrap."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

MetricName = Literal["accuracy", "f1", "matthews", "pearson", "spearman"]
Values = Float[ndarray, "_"]
Metric = Callable[[Values, Values], float]

BOOTSTRAP_ROUNDS = 1000
_SEED = 0


def accuracy(predicted: Values, wanted: Values) -> float:
    """Return the share of equal classes."""
    return float(np.mean(predicted == wanted))


def f1(predicted: Values, wanted: Values) -> float:
    """Return the harmonic mean of precision and recall of class 1; 0 where it is neither predicted nor there."""
    both = float(np.sum((predicted == 1) & (wanted == 1)))
    either = float(np.sum(predicted == 1) + np.sum(wanted == 1))
    return 2 * both / either if either else 0.0


def matthews(predicted: Values, wanted: Values) -> float:
    """Return Matthews' correlation of two classes; 0 where either side has one class only."""
    return pearson((predicted == 1).astype(np.float64), (wanted == 1).astype(np.float64))


def pearson(predicted: Values, wanted: Values) -> float:
    """Return the linear correlation; 0 where either side is constant."""
    left, right = predicted - predicted.mean(), wanted - wanted.mean()
    scale = float(np.sqrt(left @ left) * np.sqrt(right @ right))
    return float(left @ right) / scale if scale > 0 else 0.0


def spearman(predicted: Values, wanted: Values) -> float:
    """Return the correlation of ranks, equal values sharing their mean rank; 0 where either side is constant."""
    return pearson(_ranks(predicted), _ranks(wanted))


METRICS: Mapping[MetricName, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def standard_error(
    metric: Metric, predicted: Values, wanted: Values, *, other: Values | None = None, rounds: int = BOOTSTRAP_ROUNDS
) -> float:
    """Return the spread of a metric over samples drawn again, or of its difference to other predictions.

    The same draws for both models, so a difference is paired. Deterministic.

    Args:
        other: Predictions of another model for the same examples.
    """
    generator = np.random.default_rng(_SEED)
    count = len(wanted)
    values = np.empty(rounds)
    for index in range(rounds):
        drawn = generator.integers(0, count, size=count)
        values[index] = metric(predicted[drawn], wanted[drawn])
        if other is not None:
            values[index] -= metric(other[drawn], wanted[drawn])
    return float(values.std(ddof=1))


def _ranks(values: Values) -> Values:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    ranks: Values = (last - (counts - 1) / 2)[inverse]
    return ranks
