"""The use case of `srr evaluate`: a model folder and what to measure in, a report out. No compression, no network."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from srr_core.errors import EvaluationError, StopRequested
from srr_core.evaluation_report import EvaluatedModel, EvaluationReport
from srr_core.evaluators.dataset_folder import DatasetFolder
from srr_core.evaluators.opened import OpenedModel
from srr_core.evaluators.source_cache import SourceCache
from srr_core.evaluators.subject import Evaluator, Files, Subject
from srr_core.evaluators.table import EVALUATIONS
from srr_core.pipeline.memory import peak_memory_bytes
from srr_core.pipeline.plan import choose_device, core_version
from srr_core.pipeline.reporting import REPORTED_PACKAGES
from srr_core.recipe.evaluations import AnyEvaluationSpec, EvaluationKind
from srr_core.recipe.stages import Stage
from srr_core.report import Environment, Measurement
from srr_core.types import OnProgress, Progress, ShouldStop

_MEASURING_PACKAGES = (*REPORTED_PACKAGES, "lm_eval", "datasets")


@dataclass(frozen=True)
class EvaluationInputs:
    """Everything an evaluation reads; every folder may be absent until it is needed."""

    model: Path
    source: Path | None = None
    files: Files = field(default_factory=Files)
    datasets: Path = Path("datasets")
    """Filled before, by `srr evaluate --prefetch`."""
    cache: Path = Path("cache")
    """The datasets library's own copies."""
    source_results: Path | None = None
    """What sources scored before; None keeps nothing."""
    model_id: str | None = None
    model_revision: str | None = None
    source_id: str | None = None
    source_revision: str | None = None


def needed_datasets(specs: Sequence[AnyEvaluationSpec], files: Files) -> dict[str, tuple[str, ...]]:
    """Return, by kind of evaluator, which repositories of data must lie in the data folder. Needs no model.

    Raises:
        EvaluationError: an evaluator refuses its tasks.
    """
    found = {spec.kind: EVALUATIONS.build(spec).needed_datasets(files) for spec in specs}
    return {kind: datasets for kind, datasets in found.items() if datasets}


def default_kinds(model: Path, *, has_source: bool) -> tuple[EvaluationKind, ...]:
    """Return what a model is measured by when nobody says: by text, or the vectors of what predicts no next token.

    Raises:
        CheckpointError, UnsupportedModelError: config.json cannot be read or is of no known class.
    """
    if not OpenedModel(model).architecture().has_perplexity:
        return ("sentence-similarity",)
    return ("divergence", "perplexity") if has_source else ("perplexity",)


def evaluate(
    specs: Sequence[AnyEvaluationSpec],
    inputs: EvaluationInputs,
    *,
    device: str = "auto",
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> EvaluationReport:
    """Measure a model, and its source beside it where that is given.

    Args:
        specs: One of each kind at most; measured in this order.
        device: auto, cpu or cuda.
        on_progress: Called before and after every evaluator, in this thread; the stage is `evaluate`.
        should_stop: Asked between blocks and batches.
    Raises:
        EvaluationError: an evaluator does not fit, said before anything is measured, together with those that do.
        CheckpointError, UnsupportedModelError: a model cannot be read.
        StorageError: a cache folder cannot be written.
        StopRequested: `should_stop` said so.
    """

    def check_stop(*_: object) -> None:
        if should_stop is not None and should_stop():
            raise StopRequested("the evaluation was stopped; what the source scored is kept")

    place = choose_device(device)
    subject = _subject(inputs, place, check_stop)
    evaluators = [EVALUATIONS.build(spec) for spec in specs]
    _check(evaluators, subject)
    rows: list[Measurement] = []
    seconds: dict[str, float] = {}
    for number, evaluator in enumerate(evaluators):
        _tell(on_progress, number, len(evaluators), evaluator.kind)
        check_stop()
        began = time.perf_counter()
        rows += evaluator.measure(subject)
        seconds[evaluator.kind] = round(time.perf_counter() - began, 3)
    _tell(on_progress, len(evaluators), len(evaluators), None)
    used = sorted({name for evaluator in evaluators for name in evaluator.needed_datasets(inputs.files)})
    return EvaluationReport(
        model=_described(subject.model, inputs.model_id),
        source=None if subject.source is None else _described(subject.source, inputs.source_id),
        measurements=tuple(rows),
        environment=_environment(place),
        seconds=seconds,
        datasets={name: subject.data.revision(name) or "" for name in used},
        notes=_notes(subject),
    )


def _check(evaluators: Sequence[Evaluator], subject: Subject) -> None:
    if not evaluators:
        raise EvaluationError("no evaluator is named")
    kinds = [evaluator.kind for evaluator in evaluators]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise EvaluationError(f"{twice} is named twice; one run measures each once")
    refused: dict[str, EvaluationError] = {}
    for evaluator in evaluators:
        try:
            evaluator.check(subject)
        except EvaluationError as error:
            refused[evaluator.kind] = error
    if refused:
        reasons = "; ".join(f"{kind}: {error}" for kind, error in refused.items())
        fitting = [kind for kind in kinds if kind not in refused]
        rest = f"; these would run: {', '.join(fitting)}" if fitting else ""
        raise EvaluationError(reasons + rest) from next(iter(refused.values()))


def _subject(inputs: EvaluationInputs, device: torch.device, check_stop: Callable[..., None]) -> Subject:
    source = None
    if inputs.source is not None:
        if not inputs.source.is_dir():
            raise EvaluationError(f"the source {inputs.source} is gone; leave it out to measure the model alone")
        source = OpenedModel(inputs.source, revision=inputs.source_revision)
    return Subject(
        model=OpenedModel(inputs.model, revision=inputs.model_revision),
        source=source,
        device=device,
        files=inputs.files,
        data=DatasetFolder(inputs.datasets, inputs.cache),
        cache=SourceCache(inputs.source_results),
        check_stop=check_stop,
    )


def _described(opened: OpenedModel, name: str | None) -> EvaluatedModel:
    return EvaluatedModel(
        id=name or opened.directory.resolve().name,
        sha=opened.revision,
        architecture=opened.class_name,
        is_artifact=opened.is_artifact,
        weight_bytes=opened.weight_bytes(),
    )


def _environment(device: torch.device) -> Environment:
    versions: dict[str, str] = {}
    for package in _MEASURING_PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return Environment(
        core_version=core_version(),
        versions=versions,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        peak_memory_bytes=peak_memory_bytes(),
    )


def _notes(subject: Subject) -> tuple[str, ...]:
    source = subject.source
    if source is None:
        return ("no source was given, so nothing says how much was lost",) if subject.model.is_artifact else ()
    if source.class_name != subject.model.class_name:
        return (f"the source is a {source.class_name} and the model a {subject.model.class_name}",)
    return ()


def _tell(on_progress: OnProgress | None, done: int, total: int, kind: str | None) -> None:
    if on_progress is not None:
        metrics: Mapping[str, float] = {}
        on_progress(Progress(Stage.EVALUATE, done, total, layer=kind, metrics=metrics))
