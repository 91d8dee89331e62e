"""The numbers that lists show of a report."""

import pytest

from service.jobs.numbers import NO_NUMBERS, bits_of_model, numbers_of
from srr_core.report import Environment
from tests.service import finished


def test_the_most_telling_rows_of_a_compression_are_its_numbers() -> None:
    numbers = numbers_of(finished.diverging(0.02))

    assert (numbers.divergence, numbers.divergence_error) == (0.02, 0.001)
    assert numbers.perplexity_change == pytest.approx(38.5 / 37.0 - 1)
    assert (numbers.bits_of_model, numbers.bits_per_weight, numbers.size_bytes) == (8.0, 9.25, 5_242_880)


@pytest.mark.parametrize(
    ("dtype", "bits"), [("bfloat16", 8.0), ("float16", 8.0), ("float32", 16.0), ("float8_e4m3fn", None)]
)
def test_bits_of_the_model_follow_from_the_type_of_the_source(dtype: str, bits: float | None) -> None:
    report = finished.report()
    report = report.model_copy(update={"source": report.source.model_copy(update={"dtype": dtype})})

    assert bits_of_model(report) == bits


def test_a_report_of_another_kind_has_none() -> None:
    environment: Environment = finished.report().environment

    assert numbers_of(environment) == NO_NUMBERS
