"""Identifiers that sort by time of creation and cannot be guessed."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32 in lower case: no i, l, o, u."""
_RANDOM_BITS = 76
_CHARACTERS = 26


def new_id(prefix: str) -> str:
    """Return `prefix_` and 26 characters: 54 bits of microseconds since 1970, then 76 random bits.

    Sorted as text, identifiers of different microseconds are in order of creation, until the year 2540. Source:
    the ULID specification; deviation: microseconds, so that what one process makes in a row is in order without
    a counter, and lower case.
    """
    number = (time.time_ns() // 1_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    digits = (_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(_CHARACTERS)))
    return f"{prefix}_{''.join(digits)}"
