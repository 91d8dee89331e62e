"""The geometry of the bar chart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web.charts import HEIGHT, WIDTH, bar_chart, nice_ceiling, nice_ticks

VALUES = st.lists(st.floats(min_value=0, max_value=1e6, allow_subnormal=False), min_size=1, max_size=300)


@given(VALUES)
def test_every_bar_is_inside_the_picture_and_the_bars_do_not_touch(values: list[float]) -> None:
    chart = bar_chart([("layer", value) for value in values])

    assert chart is not None
    assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT and bar.height >= 0 for bar in chart.bars)
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in chart.bars)
    assert all(left.x + left.width <= right.x for left, right in zip(chart.bars, chart.bars[1:], strict=False))


def test_heights_are_proportional_to_the_values() -> None:
    chart = bar_chart([("a", 0.5), ("b", 1.0)])

    assert chart is not None
    assert chart.bars[1].height == pytest.approx(2 * chart.bars[0].height)
    assert chart.ticks[-1].label == "1"


def test_a_running_job_leaves_room_for_the_layers_to_come() -> None:
    running = bar_chart([("a", 1.0)], total=10)
    finished = bar_chart([(str(layer), 1.0) for layer in range(10)])

    assert running is not None
    assert finished is not None
    assert running.bars[0] == finished.bars[0].__class__(**{**vars(finished.bars[0]), "label": "a"})


def test_nothing_to_show_is_no_chart() -> None:
    assert bar_chart([]) is None


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_the_ceiling_is_above_and_near(value: float) -> None:
    assert value <= nice_ceiling(value) * (1 + 1e-9)
    assert nice_ceiling(value) <= 2.5 * value


@given(st.floats(min_value=-1e6, max_value=1e6), st.floats(min_value=1e-3, max_value=1e6))
def test_the_ticks_of_an_axis_enclose_what_is_on_it_and_are_few(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)

    assert ticks[0] <= low + span * 1e-6
    assert ticks[-1] >= low + span * (1 - 1e-6)
    assert 2 <= len(ticks) <= 7


def test_one_value_alone_lies_within_its_axis() -> None:
    ticks = nice_ticks(5.0, 5.0)

    assert ticks[0] < 5.0 < ticks[-1]
