"""What people read: complaints of the libraries and names of the code, as sentences and words."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from service.keys.schema import Scope

_PLAIN_WORD = re.compile(r"[a-z]+[,:]?")
_COMPLAINTS: Final[Mapping[str, str]] = {
    "greater_than_equal": "At least {ge}.",
    "greater_than": "More than {gt}.",
    "less_than_equal": "At most {le}.",
    "less_than": "Less than {lt}.",
    "literal_error": "One of {expected}.",
    "enum": "One of {expected}.",
    "string_too_long": "At most {max_length} characters.",
    "string_too_short": "This is needed.",
    "too_long": "At most {max_length} entries.",
    "too_short": "Choose at least one.",
    "string_pattern_mismatch": "This has characters that cannot be used here.",
    "missing": "This is needed.",
    "int_parsing": "This is not a whole number.",
    "float_parsing": "This is not a number.",
    "datetime_from_date_parsing": "This is not a date.",
}
"""By pydantic's kinds of error; what is not here says it itself, with `value_error` in front of its own words."""

FORMS: Final[Mapping[str, str]] = {
    "compress": "/",
    "evaluate": "/evaluate",
    "finetune": "/finetune",
    "convert": "/convert",
}
"""Where a job of each kind is asked for."""
KIND_LABELS: Final[Mapping[str, str]] = {
    "compress": "Compression",
    "evaluate": "Evaluation",
    "finetune": "Fine-tuning",
    "convert": "Conversion",
}
"""Kinds of work, for people."""

SCOPE_WORDS: Final[Mapping[Scope, str]] = {
    "jobs:read": "see jobs and reports",
    "jobs:write": "submit, cancel and retry jobs",
    "watches:read": "see watches",
    "watches:write": "make, change and delete watches",
    "notifications:write": "manage webhooks",
    "keys:write": "make and revoke API keys",
}


def sentence(text: str) -> str:
    """Return a message as a sentence. A first word that is a name, with a slash or a digit in it, stays as it is."""
    text = text.strip()
    first = text.split(" ", maxsplit=1)[0]
    if _PLAIN_WORD.fullmatch(first):
        text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?", ":", "”")) else f"{text}."


def complaint(item: Mapping[str, Any]) -> str:
    """Return what is wrong with one value, as a sentence."""
    context: Mapping[str, Any] = item.get("ctx") or {}
    template = _COMPLAINTS.get(item["type"])
    if item["type"] == "value_error":
        return sentence(str(context.get("error", item["msg"])))
    return template.format(**context) if template else sentence(item["msg"])


def complaints(error: ValidationError, fields: Iterable[str], own: Mapping[str, str]) -> dict[str, str]:
    """Return a sentence for each wrong field of a form, by its name, and under "" what concerns no field.

    Args:
        fields: The fields of the form; the innermost of them on the path to a value is to blame.
        own: Sentences that say more than the kind of an error does.
    """
    known, found = set(fields), dict[str, str]()
    for item in error.errors(include_url=False):
        name = str(next((part for part in reversed(item["loc"]) if part in known), ""))
        found.setdefault(name, own.get(name) or complaint(item))
    return found
