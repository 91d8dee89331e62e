"""The submit form: what was typed becomes a submission, or a message beside each wrong field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from service.jobs.schema import JobDestination, JobSource, JobSubmission, JobText
from srr_core.errors import RecipeError
from srr_core.recipe import DEFAULT_RECIPE, GPTQSpec, Recipe, named_recipe, override

TEXT_FIELDS = (
    "model_id",
    "revision",
    "repo_id",
    "visibility",
    "recipe",
    "num_bits",
    "rank",
    "iterations",
    "num_sequences",
    "sequence_length",
)
FILE_FIELDS = ("calibration_text", "evaluation_text")
_VISIBILITY = {"": None, "private": True, "public": False}
_WINDOW_FIELDS = ("num_sequences", "sequence_length")
T = TypeVar("T")
_REPOSITORY = "Write it as organization/name, with letters, digits, dots, dashes and underscores."
_MESSAGES = {
    "model_id": _REPOSITORY,
    "repo_id": _REPOSITORY,
    "revision": "A branch, a tag or a commit, for instance main.",
}


class FormError(Exception):
    """A form that cannot be submitted: a message per field, and under "" what concerns no single field."""

    def __init__(self, messages: Mapping[str, str]) -> None:
        super().__init__("; ".join(messages.values()))
        self.messages = dict(messages)


@dataclass(frozen=True)
class SubmitForm:
    """What a visitor typed and uploaded, not looked at yet."""

    values: Mapping[str, str]
    texts: Mapping[str, str]
    hub_token: str | None = None


async def read_form(data: FormData) -> SubmitForm:
    """Return the fields of a posted form.

    Raises:
        FormError: an uploaded file is not text.
    """
    texts = {}
    for name in FILE_FIELDS:
        upload = data.get(name)
        if isinstance(upload, UploadFile) and upload.filename:
            texts[name] = _decoded(name, await upload.read())
    return SubmitForm(values=typed_values(data), texts=texts, hub_token=str(data.get("hub_token", "")).strip() or None)


def typed_values(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the text fields of a form or a query, for filling the form in again."""
    return {name: str(data.get(name, "")).strip() for name in TEXT_FIELDS}


def submission(form: SubmitForm) -> JobSubmission:
    """Return what a form asks for.

    Raises:
        FormError: at least one field is wrong; every wrong one is named.
    """
    gathered = _Gathered()
    values = form.values
    recipe = gathered.value(lambda: chosen_recipe(values)) or named_recipe(DEFAULT_RECIPE)
    source = gathered.value(lambda: JobSource(model_id=values["model_id"], revision=values["revision"] or "main"))
    # An empty destination follows from the model, so that a wrong model is blamed once and where it was typed.
    repo_id = values["repo_id"] or (default_destination(values["model_id"], recipe) if source else "org/model")
    destination = gathered.value(lambda: JobDestination(repo_id=repo_id, private=_VISIBILITY.get(values["visibility"])))
    calibration = gathered.value(lambda: _text(form, "calibration_text"))
    evaluation = gathered.value(lambda: _text(form, "evaluation_text"))
    if gathered.messages or source is None or destination is None:
        raise FormError(gathered.messages)
    return JobSubmission(
        source=source, destination=destination, recipe=recipe, calibration=calibration, evaluation=evaluation
    )


def chosen_recipe(values: Mapping[str, str]) -> Recipe:
    """Return the recipe that the form names, with the advanced fields that were filled in.

    Raises:
        FormError: an unknown recipe, or a number that is none or out of range.
    """
    try:
        recipe = named_recipe(values["recipe"] or DEFAULT_RECIPE)
    except RecipeError as error:
        raise FormError({"recipe": str(error)}) from error
    bits = "quantizer.grid.num_bits" if isinstance(recipe.quantizer, GPTQSpec) else "quantizer.num_bits"
    paths = {"num_bits": bits, "rank": "rank", "iterations": "iterations"}
    numbers = {name: _number(name, values[name]) for name in paths if values[name]}
    try:
        return override(recipe, {paths[name]: number for name, number in numbers.items()})
    except RecipeError as error:
        cause = error.__cause__
        raise FormError(_messages(cause) if isinstance(cause, ValidationError) else {"": str(error)}) from error


def default_destination(model_id: str, recipe: Recipe | None) -> str:
    """Return the repository that an empty destination stands for: `org/name-srr-3bit`."""
    chosen = recipe or named_recipe(DEFAULT_RECIPE)
    return f"{model_id}-{chosen.name}-{chosen.quantization_bits}bit"


class _Gathered:
    """Tries each part of a form and keeps the complaints, so that all of them are shown at once."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}

    def value(self, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except FormError as error:
            self.messages |= error.messages
        except ValidationError as error:
            self.messages |= _messages(error)
        return None


def _text(form: SubmitForm, name: str) -> JobText | None:
    text = form.texts.get(name)
    windows = {field: _number(field, form.values[field]) for field in _WINDOW_FIELDS if form.values[field]}
    if text is None and not windows:
        return None
    return JobText.model_validate({"text": text, **windows})


def _number(name: str, typed: str) -> int:
    try:
        return int(typed)
    except ValueError as error:
        raise FormError({name: f"{typed!r} is not a whole number."}) from error


def _decoded(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormError({name: "This file is not UTF-8 text."}) from error


def _messages(error: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        name = next((part for part in reversed(item["loc"]) if part in TEXT_FIELDS), "")
        found.setdefault(str(name), _MESSAGES.get(str(name), f"{item['msg']}."))
    return found
