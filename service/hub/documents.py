"""JSON that comes with a model, written by a stranger: taken only as plain text, not nested without end."""

import json
from collections.abc import Mapping
from typing import Any

from service.hub.errors import InvalidConfigError
from service.platform.text import is_text

MAX_DEPTH = 64
"""The deepest configuration of transformers has about six levels."""


def json_value(content: bytes) -> Any:
    """Return what a JSON document says, or None when it is none, or nested beyond all reason."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def json_object(content: bytes) -> Mapping[str, Any] | None:
    """Return a JSON object, or None when it is something else, or nested beyond all reason."""
    found = json_value(content)
    return found if isinstance(found, dict) else None


def read_config(content: bytes, model_id: str) -> Mapping[str, Any] | None:
    """Return what a config.json says, or None when it is no JSON object.

    Raises:
        InvalidConfigError: it is nested deeper than any configuration, or holds characters that are no text.
    """
    try:
        found = json.loads(content)
    except RecursionError:
        raise _refused(model_id, f"is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError:
        return None
    _check(found, model_id)
    return found if isinstance(found, dict) else None


def _check(document: object, model_id: str) -> None:
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and not is_text(value):
                raise _refused(model_id, "holds a NUL character or half of a surrogate pair, which are no text")
        if not below:
            return
        level = below
    raise _refused(model_id, f"is nested more than {MAX_DEPTH} levels deep")


def _refused(model_id: str, why: str) -> InvalidConfigError:
    return InvalidConfigError(f"config.json of {model_id} {why}; push one that save_pretrained wrote.")
