"""Sizes in bytes as people write and read them: the one way of pages, cards, commands, reports and messages."""

import re

from srr_core.errors import RecipeError

EXAMPLES = "4GiB, 800MiB or 4GB"
"""What may be typed; what is shown has binary units alone."""
_TYPED = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)", re.IGNORECASE)
_PREFIXES = "kmgt"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_MOST = 1023.95
"""What one decimal would round up to 1024 of a unit belongs to the next one."""


def size_words(count: int | float) -> str:
    """Return bytes with a binary unit and one decimal: `13.2 MiB`."""
    unit, value = size_unit(count)
    return f"{count / value:.0f} {unit}" if unit == "B" else f"{count / value:.1f} {unit}"


def size_unit(count: int | float) -> tuple[str, int]:
    """Return the unit a size is told in, and its bytes, for an axis whose sizes all have one unit."""
    value = 1
    for unit in _UNITS[:-1]:
        if count / value < _MOST:
            return unit, value
        value *= 1024
    return _UNITS[-1], value


def size_in_bytes(text: str) -> int:
    """Return the bytes of `4GiB`, `800 MB` or `123456`; without an i a prefix is a power of ten.

    Raises:
        RecipeError: not a size.
    """
    found = _TYPED.fullmatch(text.strip())
    if found is None:
        raise RecipeError(f"{text!r} is no size; write it as {EXAMPLES}")
    number, unit = float(found[1]), found[2].lower()
    exponent = _PREFIXES.find(unit[:1]) + 1 if unit[:1] in tuple(_PREFIXES) else 0
    size = int(number * (1024 if "i" in unit else 1000) ** exponent)
    if size < 1:
        raise RecipeError(f"{text!r} is no size: it is less than a byte")
    return size
