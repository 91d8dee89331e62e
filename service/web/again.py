"""An earlier job as the form that would submit it again, with what the form has no field for."""

from collections.abc import Callable, Mapping

from service.jobs.access import owned_job
from service.jobs.errors import JobNotFoundError
from service.jobs.ports import JobReading
from service.jobs.schema import Job, JobSubmission
from service.jobs.work import CompressWork, ConvertWork, EvaluateWork, FinetuneWork, JobText, StoredText
from service.web.forms import TEXT_FIELDS, VISIBILITY, WINDOW_FIELDS, FormError, chosen_recipe
from service.web.recipe_fields import recipe_fields
from srr_core.recipe import PRESETS, Recipe

_VISIBILITY_WORDS = {value: word for word, value in VISIBILITY.items()}
ReadText = Callable[[str], str]
"""A stored text by its digest."""


def values_of(job: Job, work: CompressWork) -> dict[str, str]:
    """Return the fields that would submit a job again; only what differs from its recipe is filled in.

    What the form cannot say stays out of them: `again` names the job, and `repeated` and `base_of` take it from there.
    """
    recipe, preset = work.recipe, PRESETS.get(work.recipe.name)
    values = dict.fromkeys(TEXT_FIELDS, "") | {
        "again": job.id,
        "model_id": work.source.model_id,
        "revision": work.source.revision,
        "repo_id": work.destination.repo_id,
        "visibility": _VISIBILITY_WORDS[work.destination.private],
        "recipe": recipe.name,
        "acknowledge_license": "on" if work.acknowledge_license else "",
        "tags": ", ".join(job.tags),
    }
    if not _has_two_windows(work):
        windows = work.calibration or work.evaluation
        values |= {name: str(getattr(windows, name, None) or "") for name in WINDOW_FIELDS}
    if preset is not None and can_say(recipe):
        options, usual = recipe_fields(recipe), recipe_fields(preset)
        values |= {name: text for name, text in options.items() if text != usual[name]}
    return values


def earlier_job(values: Mapping[str, str], store: JobReading, owner: str) -> Job | None:
    """Return the job that a form was filled in from, if there is one and it is the caller's."""
    if not values.get("again"):
        return None
    try:
        return owned_job(store, values["again"], owner)
    except JobNotFoundError:
        return None


def base_of(job: Job | None) -> Recipe | None:
    """Return the recipe of a job where the form has no fields for all of it, to stand in for the one of its name."""
    if job is None or not isinstance(job.work, CompressWork) or can_say(job.work.recipe):
        return None
    return job.work.recipe


def repeated(wanted: JobSubmission, job: Job | None, read_text: ReadText) -> JobSubmission:
    """Return a submission with what the form could not say of the job that it repeats.

    Texts that were not chosen anew, windows that differ between them, and how often it is tried.
    """
    if job is None or job.work.kind != wanted.work.kind:
        return wanted
    changes: dict[str, StoredText] = {}
    for name in _text_fields(wanted):
        kept = _kept(wanted, job, name, read_text)
        if kept is not None:
            changes[name] = kept
    work = wanted.work.model_copy(update=changes)
    return wanted.model_copy(update={"work": work, "max_attempts": job.max_attempts})


def can_say(recipe: Recipe) -> bool:
    """Whether the form has fields for everything a recipe says."""
    if recipe.name not in PRESETS:
        return False
    usual = recipe_fields(PRESETS[recipe.name])
    values = {name: text if text != usual[name] else "" for name, text in recipe_fields(recipe).items()}
    try:
        said = chosen_recipe({"recipe": recipe.name, **values})
    except FormError:
        return False
    # What it is compared with is no part of the digest: it changes nothing of the result.
    return (said.digest(), said.baselines) == (recipe.digest(), recipe.baselines)


def _text_fields(wanted: JobSubmission) -> tuple[str, ...]:
    if isinstance(wanted.work, EvaluateWork):
        return ("text", "pairs")
    if isinstance(wanted.work, ConvertWork):
        return ()
    if isinstance(wanted.work, FinetuneWork):
        return ("data", "validation", "neutral", "calibration")
    return ("calibration",) if wanted.work.recipe.evaluation is None else ("calibration", "evaluation")


def _kept(wanted: JobSubmission, job: Job, name: str, read_text: ReadText) -> StoredText | None:
    """Return the text of a job in place of one that was not chosen anew, or None where there is nothing to keep."""
    before, now = getattr(job.work, name), getattr(wanted.work, name)
    is_chosen = now is not None and (not isinstance(now, StoredText) or now.text is not None)
    if is_chosen or not isinstance(before, StoredText):
        return None
    text = None if before.sha256 is None else read_text(before.sha256)
    if not isinstance(before, JobText):
        return None if text is None else before.model_copy(update={"text": text, "sha256": None})
    windows = {field: getattr(now, field, None) for field in WINDOW_FIELDS}
    if isinstance(job.work, CompressWork) and _has_two_windows(job.work) and not any(windows.values()):
        windows = {field: getattr(before, field) for field in WINDOW_FIELDS}
    kept = JobText(text=text, **windows)
    return None if kept == JobText() else kept


def _has_two_windows(work: CompressWork) -> bool:
    """Whether calibration and evaluation have windows of their own; the form has one pair of fields for both."""
    if work.recipe.evaluation is None:
        return False
    one, other = (
        [getattr(text, field, None) for field in WINDOW_FIELDS] for text in (work.calibration, work.evaluation)
    )
    return one != other
