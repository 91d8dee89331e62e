"""The verdict follows from the numbers, in all three outcomes, and says when sizes differ."""

import pytest

from srr_core.report import BaselineReport
from srr_core.telling.frontier import frontier
from srr_core.telling.verdict import Verdict, verdict
from tests.srr_core.telling.reports import SIZE, baseline, measured, report


def judged(*baselines: BaselineReport) -> Verdict:
    return verdict(report(baselines=baselines))


def test_better_beyond_the_standard_error_was_worth_it() -> None:
    found = judged(
        baseline("weight-only", 0.0753, gap=-0.0626, error=0.0008), baseline("gptq", 0.0187, gap=-0.006, error=0.0001)
    )

    assert found.outcome == "better"
    assert found.sentence == (
        "It was worth it: srr diverges by 0.0127 ± 0.0002 nats per token from the source and gptq by 0.0187, 32 % "
        "less, at the same size. weight-only does worse, with 0.0753. The files are 38 % of the source's size."
    )


def test_within_the_standard_error_makes_no_difference() -> None:
    found = judged(baseline("gptq", 0.0128, gap=-0.0001, error=0.0001))

    assert found.outcome == "equal"
    assert found.sentence.startswith("It makes no difference: ")
    assert "gptq by 0.0128, which lies within 2 standard errors, at the same size." in found.sentence


def test_worse_beyond_the_standard_error_was_not_worth_it() -> None:
    found = judged(baseline("weight-only", 0.0753, gap=-0.0626), baseline("gptq", 0.0101, gap=0.0026))

    assert found.outcome == "worse"
    assert found.sentence.startswith("It was not worth it: ")
    assert "Take gptq instead." in found.sentence
    assert "weight-only does worse, with 0.0753." in found.sentence


def test_a_baseline_that_is_smaller_makes_no_win_at_the_same_size() -> None:
    found = judged(baseline("gptq", 0.0187, gap=-0.006, size_bytes=int(0.9 * SIZE)))

    assert found.outcome == "better"
    assert found.sentence.startswith("Closer to the source, and larger: ")
    assert "the files of gptq are 10 % smaller, so this is no comparison at the same size" in found.sentence


def test_a_baseline_that_is_larger_makes_no_loss_at_the_same_size() -> None:
    found = judged(baseline("gptq", 0.01, gap=0.0027, size_bytes=int(1.1 * SIZE)))

    assert found.outcome == "worse"
    assert found.sentence.startswith("Further from the source, and smaller: ")
    assert "Take gptq" not in found.sentence


def test_the_strongest_baseline_decides() -> None:
    weak, strong = baseline("weight-only", 0.02, gap=-0.0073), baseline("gptq", 0.01, gap=0.0027)

    assert judged(weak).outcome == "better"
    assert judged(weak, strong).outcome == judged(strong, weak).outcome == "worse"


def test_without_a_baseline_nothing_is_claimed() -> None:
    found = judged()

    assert found.outcome == "unknown"
    assert "no other method ran beside it" in found.sentence
    assert verdict(report(measurements=())).sentence == (
        "No divergence was measured, so nothing says how close it is to its source; the files are 38 % of the source's "
        "size."
    )


def test_one_window_has_no_standard_error_and_a_tie_is_a_tie() -> None:
    assert judged(baseline("gptq", 0.0127, gap=0.0, error=None)).outcome == "equal"
    assert judged(baseline("gptq", 0.0126, gap=0.0001, error=None)).outcome == "worse"


def test_rows_more_than_two_percent_apart_say_so() -> None:
    near, far = (
        baseline("weight-only", 0.02, gap=0.0, size_bytes=int(1.019 * SIZE)),
        baseline("gptq", 0.02, gap=0.0, size_bytes=int(0.95 * SIZE)),
    )
    artifact, first, second, source = frontier(report(baselines=(near, far)))

    assert (artifact.size_note, first.size_note, source.size_note) == ("", "", "")
    assert second.size_note == "5 % smaller than this artifact"
    assert (source.divergence, source.size_bytes, source.bits_per_weight) == (0.0, 13_000_000, 16.0)
    assert source.perplexity == pytest.approx(37.0)
    assert first.divergence_error == measured(0.02).standard_error
