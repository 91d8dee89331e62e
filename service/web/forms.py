"""The submit form: what was typed becomes a submission, or a message beside each wrong field."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile

from service.edge.fields import MAX_TAGS, Tag
from service.hub.result_bits import bits_label, plain_bits
from service.jobs.schema import JobSubmission
from service.jobs.tenancy import LOCAL_OWNER
from service.jobs.work import CompressWork, JobDestination, JobSource, JobText
from service.web import choices
from service.web.goals import GOALS, with_goal
from service.web.wording import complaints, sentence
from srr_core.errors import RecipeError
from srr_core.recipe import DEFAULT_RECIPE, Recipe, named_recipe, override
from srr_core.recipe.budgeted import budgeted
from srr_core.recipe.byte_sizes import size_in_bytes

NUMBER_FIELDS = ("num_bits", "rank", "iterations", "group_size", "seed")
TARGETS_OF_SIZE = ("target_bits", "target_size", "target_kl")
ADVANCED_FIELDS = (
    *NUMBER_FIELDS,
    "scaling",
    "rank_selector",
    "target",
    *TARGETS_OF_SIZE,
    "evaluation",
    "num_sequences",
    "sequence_length",
    "tags",
    "force",
)
TEXT_FIELDS = (
    "again",
    "model_id",
    "revision",
    "goal",
    "repo_id",
    "visibility",
    "recipe",
    "acknowledge_license",
    *ADVANCED_FIELDS,
)
FILE_FIELDS = ("calibration_text", "evaluation_text")
VISIBILITY: Final[Mapping[str, bool | None]] = {"": None, "private": True, "public": False}
WINDOW_FIELDS = ("num_sequences", "sequence_length")
T = TypeVar("T")
_TAGS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[Tag, ...])
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REPOSITORY = "Write it as organization/name, with letters, digits, dots, dashes and underscores."
_MESSAGES = {
    "model_id": _REPOSITORY,
    "repo_id": _REPOSITORY,
    "revision": "A branch, a tag or a commit, for instance main.",
    "tags": "Words of letters, digits and . _ : - between commas, each at most 64 long.",
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


async def read_form(
    data: FormData, *, fields: Sequence[str] = TEXT_FIELDS, files: Sequence[str] = FILE_FIELDS
) -> SubmitForm:
    """Return the fields of a posted form.

    Raises:
        FormError: an uploaded file is not text.
    """
    texts = {}
    for name in files:
        upload = data.get(name)
        if isinstance(upload, UploadFile) and upload.filename:
            texts[name] = decoded(name, await upload.read())
    return SubmitForm(
        values=typed_values(data, fields), texts=texts, hub_token=str(data.get("hub_token", "")).strip() or None
    )


def typed_values(data: Mapping[str, Any], fields: Sequence[str] = TEXT_FIELDS) -> dict[str, str]:
    """Return the text fields of a form or a query, for filling the form in again."""
    return {name: str(data.get(name, "")).strip() for name in fields}


def submission(
    form: SubmitForm, *, owner: str, base: Recipe | None = None, bits: Callable[[Recipe], float | None] | None = None
) -> JobSubmission:
    """Return what a form asks for; `base` as in `chosen_recipe`.

    Args:
        bits: Returns those of the result over the whole model, for the name of its repository.

    Raises:
        FormError: at least one field is wrong; every wrong one is named.
    """
    gathered = Gathered()
    values = form.values
    recipe = gathered.value(lambda: chosen_recipe(values, base=base)) or named_recipe(DEFAULT_RECIPE)
    source = gathered.value(lambda: JobSource(model_id=values["model_id"], revision=values["revision"] or "main"))
    # An empty destination follows from the model, so that a wrong model is blamed once and where it was typed.
    follows = "org/model"
    if source and not values["repo_id"]:
        found = bits(recipe) if bits is not None else None
        follows = default_destination(values["model_id"], recipe, owner=owner, bits=found)
    destination = gathered.value(
        lambda: JobDestination(repo_id=values["repo_id"] or follows, private=VISIBILITY.get(values["visibility"]))
    )
    calibration = gathered.value(lambda: _text(form, "calibration_text"))
    evaluation = gathered.value(lambda: _text(form, "evaluation_text")) if recipe.evaluation else None
    tags = gathered.value(lambda: read_tags(values["tags"]))
    if gathered.messages or source is None or destination is None:
        raise FormError(gathered.messages)
    work = CompressWork(
        source=source,
        destination=destination,
        recipe=recipe,
        calibration=calibration,
        evaluation=evaluation,
        acknowledge_license=bool(values["acknowledge_license"]),
    )
    return JobSubmission(work=work, tags=tags or ())


def chosen_recipe(values: Mapping[str, str], *, base: Recipe | None = None) -> Recipe:
    """Return the recipe that the form names, or that serves its goal, with the advanced fields that were filled in.

    Args:
        base: Stands in for the recipe of its name: that of an earlier job which is more than the form can say.

    Raises:
        FormError: an unknown goal or recipe, or a number that is none or out of range.
    """
    if values.get("goal") and values["goal"] not in GOALS:
        raise FormError({"goal": f"One of {', '.join(GOALS)}."})
    values = {**dict.fromkeys(TEXT_FIELDS, ""), **with_goal(values)}
    try:
        is_base = base is not None and values["recipe"] == base.name
        recipe = base if base is not None and is_base else named_recipe(values["recipe"] or DEFAULT_RECIPE)
    except RecipeError as error:
        raise FormError({"recipe": sentence(str(error))}) from error
    try:
        recipe = override(recipe, _assignments(values, recipe))
        return with_target_of_size(recipe, values)
    except RecipeError as error:
        cause = error.__cause__
        raise FormError(
            _messages(cause) if isinstance(cause, ValidationError) else {"": sentence(str(error))}
        ) from error


def default_destination(model_id: str, recipe: Recipe, *, owner: str, bits: float | None = None) -> str:
    """Return the repository that an empty destination stands for: `us/name-srr-3.3bit`.

    Args:
        bits: Over the whole model, as its result will have them; those of a wide layer where that is not known.

    It is in the namespace of whoever asks, because few may write to that of the source; the local user of a
    single-user service has no name, so there it stays with the source.
    """
    namespace, _, name = model_id.rpartition("/")
    total = bits_label(plain_bits(recipe) if bits is None else bits)
    return f"{own_namespace(owner) or namespace}/{name}-{recipe.name}-{total}bit"


def own_namespace(owner: str) -> str | None:
    """Return the namespace of an owner, or None for the local user and for a name that no repository may have."""
    name = owner.rpartition(":")[2]
    return name if owner != LOCAL_OWNER and _NAMESPACE.fullmatch(name) else None


def _assignments(values: Mapping[str, str], recipe: Recipe) -> dict[str, Any]:
    numbers = {name: _number(name, values[name]) for name in NUMBER_FIELDS if values[name]}
    group = choices.group_path(recipe)
    if group is None and "group_size" in numbers:
        raise FormError({"group_size": f"The codes of {recipe.name} have no groups; leave this to the recipe."})
    paths = {"num_bits": choices.bits_path(recipe), "group_size": group or ""}
    assigned: dict[str, Any] = {paths.get(name, name): number for name, number in numbers.items()}
    for name, rows in (("scaling", choices.SCALINGS), ("rank_selector", choices.RANK_SELECTORS)):
        if values[name]:
            if values[name] not in rows:
                raise FormError({name: f"One of {', '.join(rows)}."})
            assigned[name] = dict(rows[values[name]].spec)
    if values["target"]:
        if values["target"] not in choices.TARGETS:
            raise FormError({"target": f"One of {', '.join(choices.TARGETS)}."})
        assigned["target"] = values["target"]
    if values["evaluation"]:
        assigned["evaluation"] = choices.evaluation_of(values["evaluation"], recipe)
    return assigned


def with_target_of_size(recipe: Recipe, values: Mapping[str, str]) -> Recipe:
    """Return the recipe with the target of bits, size or KL that was typed, if one was. Raises FormError."""
    targets = {name: values[name] for name in TARGETS_OF_SIZE if values[name]}
    if not targets:
        return recipe
    if len(targets) > 1:
        raise FormError(dict.fromkeys(targets, "One target of bits, size or KL at most."))
    ((name, typed),) = targets.items()
    try:
        if name == "target_size":
            return budgeted(recipe, target_size_bytes=size_in_bytes(typed))
        if name == "target_bits":
            return budgeted(recipe, target_bits=_decimal(name, typed))
        return budgeted(recipe, target_kl=_decimal(name, typed))
    except RecipeError as error:
        raise FormError({name: sentence(str(error))}) from error


def _decimal(name: str, typed: str) -> float:
    try:
        return float(typed)
    except ValueError as error:
        raise FormError({name: f"{typed!r} is not a number."}) from error


class Gathered:
    """Tries each part of a form and keeps the complaints, so that all of them are shown at once."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}

    def value(self, make: Callable[[], T], *, called: Mapping[str, str] = MappingProxyType({})) -> T | None:
        """Return what a part makes of the form, or None after keeping its complaints.

        Args:
            called: Names of fields of the form by those of what is made, where they differ.
        """
        try:
            return make()
        except FormError as error:
            self.messages |= error.messages
        except ValidationError as error:
            self.messages |= {called.get(name, name): message for name, message in _messages(error).items()}
        return None


def _text(form: SubmitForm, name: str) -> JobText | None:
    text = form.texts.get(name)
    windows = {field: _number(field, form.values[field]) for field in WINDOW_FIELDS if form.values[field]}
    if text is None and not windows:
        return None
    return JobText.model_validate({"text": text, **windows})


def _number(name: str, typed: str) -> int:
    try:
        return int(typed)
    except ValueError as error:
        raise FormError({name: f"{typed!r} is not a whole number."}) from error


def decoded(name: str, content: bytes) -> str:
    """Return an uploaded file as text. Raises FormError."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormError({name: "This file is not UTF-8 text."}) from error


def read_tags(typed: str) -> tuple[str, ...]:
    """Return the words of the field of tags. Raises FormError."""
    tags = tuple(dict.fromkeys(typed.replace(",", " ").split()))
    if len(tags) > MAX_TAGS:
        raise FormError({"tags": f"At most {MAX_TAGS} tags."})
    try:
        return _TAGS.validate_python(tags)
    except ValidationError as error:
        raise FormError({"tags": _MESSAGES["tags"]}) from error


def _messages(error: ValidationError) -> dict[str, str]:
    found = complaints(error, (*TEXT_FIELDS, "block_size"), _MESSAGES)
    if "block_size" in found:
        found.setdefault("group_size", found.pop("block_size"))
    return found
