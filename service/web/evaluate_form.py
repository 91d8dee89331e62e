"""The form of an evaluation: what was typed becomes a submission, or a message beside each wrong field."""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from service.jobs.schema import Job, JobSubmission
from service.jobs.work import EvaluateWork, JobDestination, JobSource, StoredText
from service.web.forms import VISIBILITY, FormError, Gathered, SubmitForm, read_tags
from service.web.wording import sentence
from srr_core.errors import RecipeError
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.evaluations import (
    EVALUATION_KINDS,
    MAX_SAMPLED_BYTES,
    AnyEvaluationSpec,
    EvaluationKind,
    GlueSpec,
    HarnessSpec,
    SamplesSpec,
    parse_evaluations,
)
from srr_core.recipe.glue_tasks import GLUE_TASKS
from srr_core.recipe.task_suites import SUITES

KINDS: Final[Mapping[EvaluationKind, tuple[str, str]]] = {
    "divergence": ("Divergence from the model it is compared with", "Needs fewest tokens to tell two models apart."),
    "perplexity": ("Perplexity per token", "Over windows of the text."),
    "word-perplexity": ("Perplexity per word", "As the published tables; over raw pages of the text."),
    "harness": ("Tasks of lm-evaluation-harness", "Questions with answers; the suite quick needs no network."),
    "glue": ("A task of GLUE", "For classifiers that were fine-tuned for it."),
    "sentence-similarity": ("Sentence similarity", "For embedding models."),
    "speed-memory": ("Speed and memory", "Load time, resident memory, tokens per second."),
    "samples": (
        "Answers side by side",
        f"Prompts continued by both; up to {size_words(MAX_SAMPLED_BYTES)} of weights.",
    ),
}
"""What can be measured, in words, and what it is good for."""
OPTIONS: Final[Mapping[str, tuple[EvaluationKind, tuple[str, ...]]]] = {
    "suite": ("harness", tuple(SUITES)),
    "task": ("glue", tuple(GLUE_TASKS)),
}
"""Choices that belong to one kind."""
_LIMITED: Final = ("harness", "glue")
"""Kinds that can be told to ask fewer questions."""
TEXT_FIELDS = (
    "again",
    "model_id",
    "revision",
    "reference_id",
    "reference_revision",
    *EVALUATION_KINDS,
    *OPTIONS,
    "limit",
    "prompts",
    "repo_id",
    "visibility",
    "tags",
    "force",
)
FILE_FIELDS = ("text", "pairs")


def submission(form: SubmitForm, *, earlier: EvaluateWork | None = None) -> JobSubmission:
    """Return what a form asks for.

    Args:
        earlier: The evaluation it repeats; evaluators keep the fields of theirs that have no place in the form.

    Raises:
        FormError: at least one field is wrong; every wrong one is named.
    """
    gathered, values = Gathered(), form.values
    source = gathered.value(lambda: JobSource(model_id=values["model_id"], revision=values["revision"] or "main"))
    reference = destination = None
    if values["reference_id"]:
        reference = gathered.value(
            lambda: JobSource(model_id=values["reference_id"], revision=values["reference_revision"] or "main"),
            called={"model_id": "reference_id", "revision": "reference_revision"},
        )
    if values["repo_id"]:
        destination = gathered.value(
            lambda: JobDestination(repo_id=values["repo_id"], private=VISIBILITY.get(values["visibility"]))
        )
    evaluators = gathered.value(lambda: _evaluators(values, earlier))
    tags = gathered.value(lambda: read_tags(values["tags"]))
    if gathered.messages or source is None:
        raise FormError(gathered.messages)
    work = EvaluateWork(
        source=source,
        reference=reference,
        destination=destination,
        evaluators=evaluators or (),
        text=_stored(form, "text"),
        pairs=_stored(form, "pairs"),
    )
    return JobSubmission(work=work, tags=tags or ())


def values_of(work: EvaluateWork, *, job: Job | None = None) -> dict[str, str]:
    """Return the fields that would submit an evaluation again; what has no place in them is taken from the job."""
    options = {kind: name for name, (kind, _) in OPTIONS.items()}
    chosen: dict[str, str] = {spec.kind: "on" for spec in work.evaluators}
    for spec in work.evaluators:
        if spec.kind in options:
            chosen[options[spec.kind]] = str(getattr(spec, options[spec.kind]) or "")
    limits = _limits(work.evaluators)
    if len(limits) == 1:
        chosen["limit"] = str(limits.pop() or "")
    chosen["prompts"] = "\n".join(_prompts_of(work.evaluators))
    if job is not None:
        chosen |= {"again": job.id, "tags": ", ".join(job.tags)}
    reference, destination = work.reference, work.destination
    words = {value: word for word, value in VISIBILITY.items()}
    return dict.fromkeys(TEXT_FIELDS, "") | {
        "model_id": work.source.model_id,
        "revision": work.source.revision,
        "reference_id": reference.model_id if reference else "",
        "reference_revision": reference.revision if reference else "",
        "repo_id": destination.repo_id if destination else "",
        "visibility": words[destination.private] if destination else "",
        **chosen,
    }


def _evaluators(values: Mapping[str, str], earlier: EvaluateWork | None) -> tuple[AnyEvaluationSpec, ...]:
    kinds = [kind for kind in EVALUATION_KINDS if values[kind]]
    assigned = [
        f'{kind}.{name}="{values[name]}"' for name, (kind, _) in OPTIONS.items() if values[name] and kind in kinds
    ]
    if values["limit"]:
        assigned += [f"{kind}.limit={values['limit']}" for kind in _LIMITED if kind in kinds]
    prompts = [line.strip() for line in values["prompts"].splitlines() if line.strip()]
    if prompts and "samples" in kinds:
        assigned.append(f"samples.prompts={json.dumps(prompts)}")
    try:
        chosen = parse_evaluations(kinds, assigned)
    except RecipeError as error:
        field = next((name for name in ("limit", "prompts") if f".{name}" in str(error)), "")
        raise FormError({field: sentence(str(error))}) from error
    before = {spec.kind: spec for spec in earlier.evaluators} if earlier else {}
    shown = {"kind", *OPTIONS}
    earlier_prompts = next((spec.prompts for spec in before.values() if isinstance(spec, SamplesSpec)), ())
    if values["prompts"] or _can_say(earlier_prompts):
        shown.add("prompts")
    if values["limit"] or len(_limits(before.values())) == 1:
        shown.add("limit")
    return tuple(_continued(spec, before.get(spec.kind), shown) for spec in chosen)


def _continued(spec: AnyEvaluationSpec, before: AnyEvaluationSpec | None, shown: set[str]) -> AnyEvaluationSpec:
    """Return an evaluator with the fields of an earlier one that the form does not show."""
    if before is None:
        return spec
    kept = {name: getattr(before, name) for name in type(before).model_fields if name not in shown}
    if isinstance(spec, HarnessSpec) and spec.suite is not None:
        del kept["tasks"]  # a suite was chosen instead
    return spec.model_copy(update=kept)


def _prompts_of(specs: Iterable[AnyEvaluationSpec]) -> tuple[str, ...]:
    """Return the prompts that the form has a line for each; none where one of them is more than a line."""
    prompts = next((spec.prompts for spec in specs if isinstance(spec, SamplesSpec)), ())
    return prompts if _can_say(prompts) else ()


def _can_say(prompts: Iterable[str]) -> bool:
    return all(prompt == prompt.strip() and len(prompt.splitlines()) == 1 for prompt in prompts)


def _limits(specs: Iterable[AnyEvaluationSpec]) -> set[int | None]:
    return {spec.limit for spec in specs if isinstance(spec, HarnessSpec | GlueSpec)}


def _stored(form: SubmitForm, name: str) -> StoredText | None:
    text = form.texts.get(name)
    return None if text is None else StoredText(text=text)
