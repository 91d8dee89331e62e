"""What is wrong with a value, in our words: one place for the sentences that recipes and requests are refused with.

pydantic writes for those who wrote the model ("String should match pattern"); these are for who wrote the value.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from srr_core.recipe.known_fields import known_fields

_SENTENCES: Mapping[str, str] = {
    "missing": "is needed",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of a few digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must have the form {pattern}",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have at most {max_length} entries",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "none_required": "must be null",
    "union_tag_invalid": "is of the unknown kind {tag!r}; known kinds: {expected_tags}",
    "union_tag_not_found": "needs the field {discriminator}",
    "json_invalid": "is no JSON: {error}",
    "value_error": "{error}",
    "url_parsing": "must be a URL: {error}",
    "url_scheme": "must be a URL that begins with {expected_schemes}",
    "uuid_parsing": "must be a UUID",
    "datetime_parsing": "must be a date and time",
    "datetime_from_date_parsing": "must be a date and time",
}
"""By pydantic's kinds of error, with the names of their context. What is not here is said in pydantic's words."""
FORMS: Mapping[str, str] = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$": "a repository, as owner/name",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9*?][A-Za-z0-9*?._-]*$": "repositories, as owner/name or owner/*",
    r"^[A-Za-z0-9*?][A-Za-z0-9*?._/-]*$": "a name of letters, digits and . _ / -, in which * and ? stand for others",
    r"^[A-Za-z0-9][A-Za-z0-9._/-]*$": "a branch, a tag or a commit",
    r"^[A-Za-z0-9][A-Za-z0-9._:-]*$": "a word of letters, digits and . _ : - that begins with a letter or a digit",
    r"^[a-z0-9][a-z0-9.-]*$": "a word of small letters, digits and . - that begins with a letter or a digit",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*\.(jsonl|ndjson|csv|tsv|parquet|txt)$": (
        "the path of a file that ends in .jsonl, .ndjson, .csv, .tsv, .parquet or .txt"
    ),
    r"^[0-9a-f]{64}$": "a SHA-256: 64 digits and letters from a to f",
    r"^[0-9a-f]{40}$": "a commit: 40 digits and letters from a to f",
    r"^job_[0-9a-z]{26}$": "the id of a job, which begins with job_",
    r"^job_[0-9a-z]{26}:[a-z0-9-]{1,32}$": "the id of a job, a colon and the name of a baseline",
    r"^watch_[0-9a-z]{26}$": "the id of a watch, which begins with watch_",
    r"^endpoint_[0-9a-z]{26}$": "the id of an endpoint, which begins with endpoint_",
    r"^msg_[0-9a-z]{26}$": "the id of a message, which begins with msg_",
    r"^[0-9a-z]{16}$": "the id of a key: 16 small letters and digits",
    "^(org|user)$": "org or user",
    "^[!-~]*$": "printable ASCII without spaces",
}
"""What a pattern asks for, by the pattern: nobody is shown a regular expression."""
_UNKNOWN = "extra_forbidden"


def complaint(
    item: Mapping[str, Any], model: type[BaseModel] | None = None, location: Sequence[int | str] | None = None
) -> str:
    """Return what is wrong with one value, as the rest of a sentence whose subject is the field.

    Args:
        item: One of `ValidationError.errors()`, context included.
        model: Whose fields are named after one that is unknown.
        location: The place in the model, where it is not that of the item.
    """
    place = tuple(item["loc"]) if location is None else tuple(location)
    if item["type"] == _UNKNOWN:
        return _unknown_field(() if model is None else known_fields(model, place), str(place[-1]) if place else "")
    form = FORMS.get((item.get("ctx") or {}).get("pattern", ""))
    if form is not None:
        return f"must be {form}"
    template = _SENTENCES.get(item["type"])
    try:
        return str(item["msg"]) if template is None else template.format_map(item.get("ctx") or {})
    except KeyError:  # an error that somebody made without its context
        return str(item["msg"])


def complaints(error: ValidationError, model: type[BaseModel], *, whole: str) -> str:
    """Return one line naming each wrong field, what it must be, and what was given.

    Args:
        whole: What the document as a whole is called.
    """
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or whole}: {complaint(item, model)}{_given(item)}"
        for item in error.errors(include_url=False)
    )


def _unknown_field(known: Sequence[str], name: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    parts = ["is not a known field"]
    parts += [f"did you mean {near[0]}?"] if near else []
    parts += [f"known fields: {', '.join(known)}"] if known else []
    return "; ".join(parts)


def _given(item: Mapping[str, Any]) -> str:
    value = item["input"]
    is_shown = item["type"] not in {"missing", _UNKNOWN} and not isinstance(value, dict)
    return f" (got {value!r})" if is_shown else ""
