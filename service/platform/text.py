"""Text of strangers: what no store and no encoder keeps, and what would change the screen of whoever reads it."""

import json
import re
from typing import Any, Final

REPLACEMENT: Final = "\ufffd"
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_CONTROLS: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Everything but tabs and line ends that moves a cursor, colours a terminal or turns a line around."""
_ESCAPED: Final = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
"""What `_UNSTORABLE` looks like in JSON; whole pairs of surrogates look so too, and are left alone."""


def is_text(text: str) -> bool:
    """Whether every store and encoder keeps a text."""
    return _UNSTORABLE.search(text) is None


def storable(text: str) -> str:
    """Return a text with NUL characters and halves of surrogate pairs replaced."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def clean(text: str) -> str:
    """Return a sentence fit for a log, a page and a terminal: without control characters, too."""
    return _CONTROLS.sub(REPLACEMENT, text)


def storable_document(value: Any) -> Any:
    """Return a JSON document with every text and key of it storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key) if isinstance(key, str) else key: storable_document(item) for key, item in value.items()}
    return [storable_document(item) for item in value] if isinstance(value, list | tuple) else value


def dump_document(value: Any) -> str:
    """Return a document as the JSON that databases keep."""
    text = json.dumps(value)
    return json.dumps(storable_document(value)) if _ESCAPED.search(text) else text


def load_document(text: str | bytes) -> Any:
    """Return a stored document; what an earlier version stored unclean is cleaned."""
    content = text if isinstance(text, str) else text.decode()
    value = json.loads(content)
    return storable_document(value) if _ESCAPED.search(content) else value
