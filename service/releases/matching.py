"""Which releases a watch is about, and where their artifacts go. Pure."""

from fnmatch import fnmatchcase
from string import Formatter

from pydantic import TypeAdapter, ValidationError

from service.hub.result_bits import bits_label, plain_bits
from service.jobs.work import RepoId
from service.releases.errors import InvalidWatchError
from service.releases.schema import WatchRules
from srr_core.recipe import Recipe

_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_FIELDS = frozenset({"owner", "name", "recipe", "bits", "total_bits", "ref"})
_ALLOWED = ", ".join(f"{{{field}}}" for field in sorted(_FIELDS))
_REPO_ID: TypeAdapter[str] = TypeAdapter(RepoId)


def matches_model(rules: WatchRules, repo_id: str) -> bool:
    """Whether a model is watched. Case counts, as in the Hub's canonical ids."""
    return fnmatchcase(repo_id, rules.pattern)


def matches_ref(rules: WatchRules, ref: str) -> bool:
    """Whether a branch or tag is watched; a pull request never is."""
    if ref.startswith(_HEADS):
        return any(fnmatchcase(ref.removeprefix(_HEADS), pattern) for pattern in rules.branches)
    return ref.startswith(_TAGS) and any(fnmatchcase(ref.removeprefix(_TAGS), pattern) for pattern in rules.tags)


def branch_ref(name: str) -> str:
    """Return the full name of a branch."""
    return f"{_HEADS}{name}"


def tag_ref(name: str) -> str:
    """Return the full name of a tag."""
    return f"{_TAGS}{name}"


def needs_total_bits(rules: WatchRules) -> bool:
    """Whether the names of results follow from how large the model is."""
    return "total_bits" in _fields(rules.destination)


def destination_of(
    rules: WatchRules, repo_id: str, ref: str, recipe: Recipe, *, total_bits: float | None = None
) -> str:
    """Return the repository an artifact is published to.

    Args:
        total_bits: Of the result, over the whole model; those of a wide layer where the model is not known.

    Raises:
        InvalidWatchError: the template is malformed, what it becomes is not a repository id, or is the source itself.
    """
    _fields(rules.destination)
    owner, name = repo_id.split("/", maxsplit=1)
    short = ref.removeprefix(_HEADS).removeprefix(_TAGS).replace("/", "-")
    filled = rules.destination.format(
        owner=owner,
        name=name,
        recipe=recipe.name,
        bits=recipe.quantization_bits,
        total_bits=bits_label(plain_bits(recipe) if total_bits is None else total_bits),
        ref=short,
    )
    try:
        valid = _REPO_ID.validate_python(filled)
    except ValidationError as error:
        raise InvalidWatchError(f"the destination {filled!r} of {repo_id} is not a repository id") from error
    if valid.lower() == repo_id.lower():
        raise InvalidWatchError(f"the destination {filled!r} is the source itself")
    return valid


def check_rules(rules: WatchRules) -> None:
    """Refuse rules that could not work, when they are made rather than at the first release.

    Raises:
        InvalidWatchError: an unknown field in the template, an invalid or colliding result, or no ref at all.
    """
    if not rules.branches and not rules.tags:
        raise InvalidWatchError("a watch needs a branch or a tag pattern; give branches=['main'], for instance")
    fields = _fields(rules.destination)
    example = rules.pattern.replace("*", "x").replace("?", "x")
    results = [destination_of(rules, example, branch_ref("main"), recipe) for recipe in rules.recipes]
    if len(set(results)) < len(results):
        raise InvalidWatchError(
            "two recipes would publish to one repository; use {recipe} or {total_bits} in the template"
        )
    if has_wildcard(rules) and "name" not in fields:
        raise InvalidWatchError("all models would publish to one repository; use {name} in the template")


def has_wildcard(rules: WatchRules) -> bool:
    """Whether a watch is about more than one model."""
    return "*" in rules.pattern or "?" in rules.pattern


def _fields(template: str) -> frozenset[str]:
    # str.format understands far more than a name: `{name:>9999999}` alone would fill the memory.
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise InvalidWatchError(f"the destination template is malformed: {error}; it may use {_ALLOWED}") from error
    for _, field, specification, conversion in parts:
        if field not in _FIELDS or specification or conversion:
            written = f"{field}{f'!{conversion}' if conversion else ''}{f':{specification}' if specification else ''}"
            raise InvalidWatchError(f"the destination template may use {_ALLOWED} as they stand, not {{{written}}}")
    return frozenset(str(field) for _, field, _, _ in parts)
