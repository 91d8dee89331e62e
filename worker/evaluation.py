"""An evaluation, top to bottom: resolve, download, measure, and publish the report where that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from examples import EVALUATION_TEXT
from service.hub.destination import check_destination
from service.hub.errors import HubUnavailableError
from service.hub.model import ResolvedModel, check_readable
from service.jobs.schema import Job, JobResult
from service.jobs.work import EvaluateWork, JobSource, StoredText
from service.platform.tracing import span
from srr_core.errors import EvaluationError
from srr_core.evaluation_report import EvaluationReport
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.evaluations import AnyEvaluationSpec, parse_evaluations
from srr_core.recipe.stages import Stage
from worker.eval_results import write_eval_results
from worker.evaluation_card import evaluation_card
from worker.publisher import publish_folder
from worker.run_context import Finished, RunContext
from worker.shared_hubs import destination, kept_results, resolved, write_down_publisher

if TYPE_CHECKING:  # torch: only what computes pays for it
    from srr_core.evaluators.subject import Files
    from srr_core.types import Progress

REPORT_NAME = "evaluation.json"


@dataclass(frozen=True)
class _Models:
    """What is measured, and what it is compared with."""

    model: ResolvedModel
    reference: ResolvedModel | None


def evaluate_and_publish(job: Job, work: EvaluateWork, context: RunContext) -> Finished:
    """Carry out an evaluation. Raises what `runner.run` says."""
    with span("resolve"):
        models = _resolve(work, context)
    with span("download"):
        _download(work, models, context)
    with span("evaluate"):
        report = _evaluate(work, models, context)
    if work.destination is None:
        return Finished(None, report)
    with span("publish"):
        result = _publish(job, work, models.model, report, context)
    return Finished(result, report)


def _resolve(work: EvaluateWork, context: RunContext) -> _Models:
    context.progress.advance(Stage.DOWNLOAD, 0, 1)
    model = _resolved(work.source, context)
    reference = None if work.reference is None else _resolved(work.reference, context)
    if work.destination is not None:
        place = destination(work.destination.repo_id, context)
        check_destination(place, model, private=work.destination.private, holding="evaluation")
    written = context.store.resolve_source(
        context.lease, sha=model.sha, reference_sha=None if reference is None else reference.sha
    )
    context.require_ours(written)
    return _Models(model, reference)


def _resolved(source: JobSource, context: RunContext) -> ResolvedModel:
    model = resolved(source, context)
    check_readable(model)
    context.progress.say(f"Resolved {model.model_id} at {source.revision} to commit {model.sha[:12]}.")
    return model


def _download(work: EvaluateWork, models: _Models, context: RunContext) -> None:
    wanted = [(work.source, models.model, context.workspace.source)]
    if work.reference is not None and models.reference is not None:
        wanted.append((work.reference, models.reference, context.workspace.reference))
    sizes = [sum(file.size_bytes for file in model.whole_downloads) for _, model, _ in wanted]
    context.require_free(max(0, sum(sizes) - context.workspace.size_bytes()))
    for number, (source, model, folder) in enumerate(wanted):
        before, total = sum(sizes[:number]), sum(sizes)

        def tell(done: int, _: int, before: int = before, total: int = total) -> None:
            context.progress.on_bytes(before + done, total)

        token = context.access.token_for(source.model_id)
        context.source_hub(source.model_id).download(
            model, folder, whole=True, token=token, on_progress=tell, should_stop=context.should_stop
        )
        context.progress.say(f"Downloaded {model.model_id}, {size_words(sizes[number])}, and checked each file.")


def _evaluate(work: EvaluateWork, models: _Models, context: RunContext) -> EvaluationReport:
    from srr_core.evaluators.subject import Files
    from srr_core.pipeline.evaluate import EvaluationInputs, default_kinds, evaluate

    workspace, reference = context.workspace, models.reference
    specs = work.evaluators or parse_evaluations(default_kinds(workspace.source, has_source=reference is not None))
    own = _written(work.text, workspace.evaluation_text, context)
    files = Files(
        # The bundled text for whoever brings none; its words are not those of the published tables.
        text=own or EVALUATION_TEXT,
        pages=own,
        pairs=_written(work.pairs, workspace.root / _pairs_name(work.pairs, context), context),
    )
    datasets = context.cache / "prefetched"
    _fetch_datasets(specs, files, datasets, context)
    return evaluate(
        specs,
        EvaluationInputs(
            model=workspace.source,
            source=None if reference is None else workspace.reference,
            files=files,
            datasets=datasets,
            cache=context.cache / "datasets",
            source_results=kept_results(reference, context),
            model_id=models.model.model_id,
            model_revision=models.model.sha,
            source_id=None if reference is None else reference.model_id,
            source_revision=None if reference is None else reference.sha,
        ),
        device=context.device,
        on_progress=lambda step: _tell(step, context),
        should_stop=context.should_stop,
    )


def _tell(step: "Progress", context: RunContext) -> None:
    if step.layer is not None:
        context.progress.say(f"Measuring {step.layer}.")
    context.progress.advance(Stage(step.stage), step.completed, step.total)


def _fetch_datasets(specs: Sequence[AnyEvaluationSpec], files: "Files", folder: Path, context: RunContext) -> None:
    from srr_core.evaluators.dataset_folder import DatasetFolder
    from srr_core.pipeline.evaluate import needed_datasets

    data = DatasetFolder(folder, context.cache / "datasets")
    needed = needed_datasets(specs, files)
    for kind, names in needed.items():
        missing = [name for name in names if data.revision(name) is None]
        if not missing:
            continue
        able = ", ".join(spec.kind for spec in specs if spec.kind not in needed)
        rest = f"; without them these would run: {able}" if able else ""
        if context.datasets is None:
            raise EvaluationError(
                f"{kind} needs the datasets {', '.join(missing)}, and this worker fetches none from the Hub{rest}; "
                f"fill {folder} with `srr evaluate --prefetch --data`"
            )
        context.progress.say(f"Fetching the datasets of {kind}.")
        try:
            # Without the job's token: what lies there is every job's, so it holds public data only.
            context.datasets().prefetch(names, data, should_stop=context.should_stop)
        except HubUnavailableError as error:
            raise HubUnavailableError(f"{kind} needs datasets that are not here yet: {error}{rest}") from error


def _pairs_name(pairs: StoredText | None, context: RunContext) -> str:
    """Return a name whose ending says what the pairs are: objects of JSON, or columns between tabs."""
    if pairs is None or pairs.sha256 is None:
        return "pairs.tsv"
    return "pairs.jsonl" if context.store.text(pairs.sha256).lstrip().startswith("{") else "pairs.tsv"


def _written(text: StoredText | None, path: Path, context: RunContext) -> Path | None:
    if text is None or text.sha256 is None:
        return None
    path.write_bytes(context.store.text(text.sha256).encode())
    return path


def _publish(
    job: Job, work: EvaluateWork, model: ResolvedModel, report: EvaluationReport, context: RunContext
) -> JobResult:
    context.require_ours(context.store.publishing(context.lease))
    context.progress.advance(Stage.PUBLISH, 0, 1)
    if work.destination is None:
        raise ValueError("an evaluation without a destination is not published")
    write_down_publisher(work.destination.repo_id, context)
    folder = context.workspace.artifact
    folder.mkdir(exist_ok=True)
    (folder / REPORT_NAME).write_text(f"{report.model_dump_json(indent=2)}\n", encoding="utf-8")
    card = evaluation_card(report, repo_id=work.destination.repo_id, model=model)
    (folder / "README.md").write_text(card, encoding="utf-8")
    shown = write_eval_results(folder, report, source_url=_report_url(work.destination.repo_id, model, context))
    if shown:
        context.progress.say(f"Wrote {', '.join(shown)}: registered benchmarks, for the model's own page.")
    commit = publish_folder(
        context.destination_hub,
        folder,
        repo_id=work.destination.repo_id,
        source=model,
        holding="evaluation",
        message=f"Publish an evaluation of {model.model_id}",
        job_id=job.id,
        token=context.access.token_for(work.destination.repo_id),
        private=work.destination.private,
    )
    context.progress.say(f"Published {commit.repo_id} at commit {commit.sha[:12]}.")
    return JobResult(repo_id=commit.repo_id, commit_sha=commit.sha, commit_url=commit.url)


def _report_url(repo_id: str, model: ResolvedModel, context: RunContext) -> str | None:
    """Return where the report will be; None in a folder, which has no address."""
    if context.destination_hub.is_local or not model.url or not model.url.endswith(model.model_id):
        return None
    return f"{model.url.removesuffix(model.model_id)}{repo_id}/blob/main/{REPORT_NAME}"
