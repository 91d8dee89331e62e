"""Windows hold every example once, none beyond its size, and little padding."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from srr_core.tuners.examples import example
from srr_core.tuners.packing import alone, pack

WINDOW = 32


def examples(lengths):
    return [example(row, [row] * length, [True] * length) for row, length in enumerate(lengths)]


@given(st.lists(st.integers(1, WINDOW), max_size=60))
def test_every_example_is_in_one_window_that_holds_it(lengths):
    windows = pack(examples(lengths), WINDOW)
    assert sorted(member.row for window in windows for member in window) == list(range(len(lengths)))
    assert all(sum(map(len, window)) <= WINDOW for window in windows)


@given(st.lists(st.integers(1, WINDOW), min_size=1, max_size=60))
def test_no_two_windows_would_fit_into_one(lengths):
    # Best fit opens a window only when none has room, so at most one is less than half full.
    used = sorted(sum(map(len, window)) for window in pack(examples(lengths), WINDOW))
    assert all(first + second > WINDOW for first, second in pairwise(used))


def test_unpacked_examples_have_a_window_each():
    assert [len(window) for window in alone(examples([3, 4]))] == [1, 1]
