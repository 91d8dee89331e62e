"""The text of a key: `srr_<id>_<secret>`. The prefix lets scanners find leaked keys, the id lets us find the row."""

import hashlib
import re
import secrets

_ID_CHARACTERS = 16
_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES = 32
_TEXT = re.compile(r"srr_([0-9a-z]{16})_([A-Za-z0-9_-]{43})")


def new_secret() -> tuple[str, str, str]:
    """Return a new id, the text of the key, and the digest to store: 256 random bits need no slow hash."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_CHARACTERS))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    return key_id, f"srr_{key_id}_{secret}", _digest(secret)


def parse_secret(text: str) -> tuple[str, str] | None:
    """Return the id and the digest of a key's text, or None when it is not one of ours."""
    match = _TEXT.fullmatch(text)
    return None if match is None else (match[1], _digest(match[2]))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
