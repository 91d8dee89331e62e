"""Sizes have one way to be told, and it goes back and forth."""

import pytest

from srr_core.recipe.byte_sizes import size_in_bytes, size_unit, size_words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (13_002_342, "12.4 MiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_a_size_is_told_in_the_largest_unit_that_is_not_above_it(count: int, words: str) -> None:
    assert size_words(count) == words


@pytest.mark.parametrize("count", [1, 700, 3 * 1024, 5 * 2**20, 3 * 2**29, 7 * 2**40])
def test_what_is_told_can_be_typed(count: int) -> None:
    assert size_in_bytes(size_words(count)) == count


def test_an_axis_has_the_unit_that_its_largest_size_is_told_in() -> None:
    assert size_unit(3 * 2**30) == ("GiB", 2**30)
