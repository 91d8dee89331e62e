"""Several examples in one window, each apart from the others: fewer padding tokens, the same losses."""

from bisect import bisect_left, insort
from collections.abc import Sequence

from srr_core.tuners.examples import Example

Window = tuple[Example, ...]


def pack(examples: Sequence[Example], window: int) -> list[Window]:
    """Return windows filled by best-fit decreasing, the longest examples first; the same input, the same windows.

    Args:
        examples: None longer than the window.
        window: Tokens of one.
    """
    order = sorted(range(len(examples)), key=lambda index: -len(examples[index]))
    filled: list[list[int]] = []
    spaces: list[tuple[int, int]] = []
    """(free tokens, number of the window), sorted."""
    for index in order:
        length = len(examples[index])
        place = bisect_left(spaces, (length, -1))
        if place < len(spaces):
            free, number = spaces.pop(place)
        else:
            free, number = window, len(filled)
            filled.append([])
        filled[number].append(index)
        if free > length:
            insort(spaces, (free - length, number))
    return [tuple(examples[index] for index in sorted(members)) for members in filled]


def alone(examples: Sequence[Example]) -> list[Window]:
    """Return every example in a window of its own."""
    return [(example,) for example in examples]
