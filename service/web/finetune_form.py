"""The form of a fine-tuning: what was typed becomes a submission, or a message beside each wrong field."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, cast

from pydantic import ValidationError

from service.jobs.schema import Job, JobSubmission
from service.jobs.work import (
    AnyTrainingData,
    DatasetFile,
    FinetuneWork,
    JobDestination,
    JobSource,
    StoredText,
    TrainingData,
)
from service.web.forms import VISIBILITY, FormError, Gathered, SubmitForm, read_tags
from service.web.wording import complaints, sentence
from srr_core.errors import RecipeError
from srr_core.recipe import parse_assignments
from srr_core.recipe.tuning import STARTS, RecipeStart, TuningSpec
from srr_core.recipe.tuning_options import ARTIFACT, with_fields, with_rank, with_start, with_task
from srr_core.recipe.tuning_tasks import GLUE_TASKS, GLUETask

START_WORDS: Final[Mapping[str, str]] = {
    "srr": "srr: preserve, quantize, reconstruct",
    "srr-iterative": "srr-iterative: lowest error at the start",
    "srr-paper": "srr-paper: as published",
    "qera-exact": "qera-exact",
    "qera-approx": "qera-approx",
    "loftq": "loftq",
    "lq-lora": "lq-lora",
    "qlora": "qlora: Q and a fresh adapter",
    "lora": "lora: 16 bit and a fresh adapter",
    ARTIFACT: "What the model brings: an artifact of this service",
}
"""Where a training may begin, in words."""
DEFAULT_START = "srr-iterative"
TASKS: Final[Mapping[str, str]] = {
    "text": "Plain text",
    "instructions": "Prompts and completions, or chats",
    "classification": "Labels of texts",
    "regression": "Numbers of texts",
    "gsm8k": "Arithmetic: GSM8K",
    **{f"glue:{name}": f"GLUE: {name}" for name in GLUE_TASKS},
}
"""What is learned, in words."""
FORMATS: Final[Mapping[str, str]] = {"jsonl": "JSON lines", "csv": "CSV", "tsv": "TSV", "text": "Text"}
_Format = Literal["jsonl", "csv", "tsv", "text"]
NUMBERS: Final[Mapping[str, str]] = {
    "learning_rate": "optimizer.learning_rate",
    "epochs": "schedule.epochs",
    "max_steps": "schedule.max_steps",
    "batch_size": "batch.size",
    "window": "data.window",
}
"""Fields of the form that are one field of the specification each."""
RESULTS: Final[Mapping[str, str]] = {
    "adapter": "The compressed base and the adapter",
    "merged": "One dense model in bfloat16",
}
TEXT_FIELDS = (
    "again",
    "model_id",
    "revision",
    "start",
    "task",
    "rank",
    *NUMBERS,
    "result",
    "fields",
    "data_format",
    "dataset",
    "dataset_revision",
    "dataset_path",
    "acknowledge_license",
    "repo_id",
    "visibility",
    "tags",
    "force",
)
_DATASET_FIELDS: Final[Mapping[str, str]] = {
    "dataset": "dataset",
    "revision": "dataset_revision",
    "path": "dataset_path",
}
_DATASET_MESSAGES: Final[Mapping[str, str]] = {
    "dataset": "Write it as organization/name.",
    "revision": "A commit: 40 digits and letters from a to f.",
    "path": "A file of the dataset, such as data/train.jsonl.",
}
FILE_FIELDS = ("data", "validation", "neutral", "calibration")


def submission(form: SubmitForm, *, earlier: FinetuneWork | None = None) -> JobSubmission:
    """Return what a form asks for.

    Args:
        earlier: The fine-tuning it repeats; its rows stand in where none are chosen.

    Raises:
        FormError: at least one field is wrong; every wrong one is named.
    """
    gathered, values = Gathered(), form.values
    source = gathered.value(lambda: JobSource(model_id=values["model_id"], revision=values["revision"] or "main"))
    destination = gathered.value(
        lambda: JobDestination(repo_id=values["repo_id"], private=VISIBILITY.get(values["visibility"]))
    )
    tuning = gathered.value(lambda: chosen_tuning(values))
    data = gathered.value(lambda: _data(form, earlier))
    tags = gathered.value(lambda: read_tags(values["tags"]))
    if gathered.messages or source is None or destination is None or tuning is None or data is None:
        raise FormError(gathered.messages)
    work = FinetuneWork(
        source=source,
        destination=destination,
        tuning=tuning,
        data=data,
        validation=_rows(form, "validation"),
        neutral=_stored(form, "neutral"),
        calibration=_stored(form, "calibration"),
        acknowledge_license=bool(values["acknowledge_license"]),
    )
    return JobSubmission(work=work.resolved(), tags=tags or ())


def chosen_tuning(values: Mapping[str, str]) -> TuningSpec:
    """Return the specification that the form says. Raises FormError."""
    spec = TuningSpec()
    for name, use in (("start", with_start), ("task", with_task)):
        if values[name]:
            spec = _with(name, lambda use=use, name=name, spec=spec: use(spec, values[name]))
    if values["rank"]:
        spec = _with("rank", lambda: with_rank(spec, _whole(values["rank"])))
    for name, path in NUMBERS.items():
        if values[name]:
            spec = _with(name, lambda path=path, name=name, spec=spec: with_fields(spec, {path: _json(values[name])}))
    if values["result"]:
        spec = _with("result", lambda: with_fields(spec, {"result.kind": values["result"]}))
    assignments = [line.strip() for line in values["fields"].splitlines() if line.strip()]
    return _with("fields", lambda: with_fields(spec, parse_assignments(assignments))) if assignments else spec


def values_of(work: FinetuneWork, *, job: Job) -> dict[str, str]:
    """Return the fields that would submit a fine-tuning again; its texts are taken from the job."""
    words = {value: word for word, value in VISIBILITY.items()}
    spec, data = work.tuning, work.data
    values = dict.fromkeys(TEXT_FIELDS, "") | {
        "again": job.id,
        "tags": ", ".join(job.tags),
        "acknowledge_license": "on" if work.acknowledge_license else "",
        "model_id": work.source.model_id,
        "revision": work.source.revision,
        "start": _start_name(spec),
        "task": f"glue:{spec.task.name}" if isinstance(spec.task, GLUETask) else spec.task.kind,
        "rank": str(_rank(spec)),
        "result": spec.result.kind if spec.result.kind in RESULTS else "",
        "repo_id": work.destination.repo_id,
        "visibility": words[work.destination.private],
    }
    if isinstance(data, DatasetFile):
        values |= {"dataset": data.dataset, "dataset_revision": data.revision, "dataset_path": data.path}
    else:
        values["data_format"] = data.format
    base = dict(_leaves(chosen_tuning(values).model_dump(mode="json")))
    changed = {path: value for path, value in _leaves(spec.model_dump(mode="json")) if base.get(path) != value}
    for name, path in NUMBERS.items():
        if path in changed:
            values[name] = str(changed.pop(path))
    values["fields"] = "\n".join(f"{path}={json.dumps(value)}" for path, value in changed.items())
    return values


def _with(name: str, change: Any) -> TuningSpec:
    try:
        return cast("TuningSpec", change())
    except RecipeError as error:
        raise FormError({name: sentence(str(error))}) from error


def _whole(typed: str) -> int:
    if not typed.isdecimal():
        raise FormError({"rank": f"{typed!r} is not a whole number."})
    return int(typed)


def _json(typed: str) -> Any:
    try:
        return json.loads(typed)
    except ValueError:
        return typed


def _data(form: SubmitForm, earlier: FinetuneWork | None) -> AnyTrainingData:
    values = form.values
    if values["dataset"]:
        try:
            return DatasetFile(
                dataset=values["dataset"], revision=values["dataset_revision"], path=values["dataset_path"]
            )
        except ValidationError as error:
            found = complaints(error, _DATASET_MESSAGES, _DATASET_MESSAGES)
            raise FormError({_DATASET_FIELDS[name]: message for name, message in found.items()}) from error
    rows = _rows(form, "data")
    if rows is None and earlier is not None and isinstance(earlier.data, TrainingData):
        return earlier.data
    if rows is None:
        raise FormError({"data": "Choose a file, or name a dataset of the Hub."})
    return rows


def _rows(form: SubmitForm, name: str) -> TrainingData | None:
    text = form.texts.get(name)
    if text is None:
        return None
    chosen = form.values["data_format"] or guessed_format(text, task=form.values["task"] or "text")
    if chosen not in FORMATS:
        raise FormError({"data_format": f"One of {', '.join(FORMATS)}."})
    return TrainingData(text=text, format=cast("_Format", chosen))


def guessed_format(text: str, *, task: str) -> str:
    """Return what a file is, as its first line shows."""
    first = text.lstrip().split("\n", maxsplit=1)[0]
    if first.startswith("{"):
        return "jsonl"
    if task == "text":
        return "text"
    return "tsv" if "\t" in first else "csv"


def _stored(form: SubmitForm, name: str) -> StoredText | None:
    text = form.texts.get(name)
    return None if text is None else StoredText(text=text)


def _start_name(spec: TuningSpec) -> str:
    if not isinstance(spec.start, RecipeStart):
        return spec.start.kind
    name = spec.start.recipe.name
    return name if name in STARTS else DEFAULT_START


def _rank(spec: TuningSpec) -> int:
    start = spec.start
    return start.recipe.rank if isinstance(start, RecipeStart) and start.recipe.rank else spec.rank


def _leaves(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        where = f"{path}.{name}" if path else name
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, where)
        else:
            yield where, inner
