"""Jobs in every state, as a worker would have left them, for the tests of the API, the pages and the client."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from service.jobs.numbers import numbers_of
from service.jobs.ports import JobStore
from service.jobs.schema import Job, JobFailure, JobResult, JobSubmission, Lease
from service.jobs.work import ConvertWork, EvaluateWork, FinetuneWork, JobDestination, JobSource, TrainingData
from srr_core.conversion_report import ConversionReport, ConvertedFile, ConvertedModel
from srr_core.evaluation_report import EvaluatedModel, EvaluationReport
from srr_core.recipe import parse_recipe
from srr_core.recipe.evaluations import SamplesSpec, TextDivergenceSpec
from srr_core.recipe.exporters import GGUFSpec
from srr_core.recipe.stages import Stage
from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.tuning_options import with_fields, with_start, with_task
from srr_core.report import Answer, Measurement, Report
from srr_core.tuners.data_report import DataReport, Piece, Preview, SplitReport
from srr_core.tuners.report import CellReport, EvaluationRow, RateReport, StartReport, StepRow, TuningReport
from tests.service.finished_report import SHA, report
from tests.service.submitting import submission, submitted

WORKER = "worker-1"
LEASE = timedelta(hours=1)


def queued(
    store: JobStore,
    *,
    model_id: str = "org/model",
    recipe: str = "srr",
    owner: str = "local",
    tags: tuple[str, ...] = (),
    options: Mapping[str, Any] | None = None,
) -> Job:
    """Return a new job, its recipe with some options of its own."""
    wanted = submission(
        source=JobSource(model_id=model_id),
        destination=JobDestination(repo_id=f"{model_id}-{recipe}"),
        recipe=parse_recipe({"name": recipe, **(options or {})}),
        tags=tags,
    )
    return submitted(store, wanted, owner=owner)


def running(store: JobStore, **choices: Any) -> Job:
    """Return a job that a worker holds."""
    job = queued(store, **choices)
    store.claim(job.id, 1, worker=WORKER, lasts=LEASE)
    store.resolve_source(Lease(job.id, 1, WORKER), sha=SHA)
    store.progress(Lease(job.id, 1, WORKER), stage=Stage.COMPRESS, progress=0.4)
    return store.get(job.id)


def finish_layer(store: JobStore, job: Job, name: str, *, error: float, preserved_rank: int) -> None:
    """Record a finished layer of a running job."""
    data = {"layer": name, "output_error": error, "preserved_rank": preserved_rank, "completed": 1, "total": 4}
    store.append_event(Lease(job.id, 1, WORKER), "layer", data)


def failed(store: JobStore, message: str = "the model is gated", **choices: Any) -> Job:
    """Return a job that failed for good."""
    job = running(store, **choices)
    store.fail(Lease(job.id, 1, WORKER), JobFailure(code="gated_model", message=message))
    return store.get(job.id)


def succeeded(store: JobStore, *, document: Report | None = None, has_numbers: bool = True, **choices: Any) -> Job:
    """Return a job with a result and a report."""
    job = running(store, **choices)
    return finish(store, job, document=document, has_numbers=has_numbers)


def finish(store: JobStore, job: Job, *, document: BaseModel | None = None, has_numbers: bool = True) -> Job:
    """Let a running job succeed; without its numbers, as a worker of an earlier version did."""
    result = JobResult(
        repo_id=job.work.destination.repo_id,
        commit_sha="b" * 40,
        commit_url="https://hub.example/commit/b",
        numbers=numbers_of(document or report()) if has_numbers else None,
    )
    store.publishing(Lease(job.id, 1, WORKER))
    store.succeed(Lease(job.id, 1, WORKER), result=result, report=(document or report()).model_dump(mode="json"))
    return store.get(job.id)


def measured(store: JobStore, *, owner: str = "local") -> Job:
    """Return an evaluation that succeeded and published nothing."""
    work = EvaluateWork(
        source=JobSource(model_id="org/model-srr"),
        reference=JobSource(model_id="org/model"),
        evaluators=(TextDivergenceSpec(),),
    )
    job = submitted(store, JobSubmission(work=work), owner=owner)
    store.claim(job.id, 1, worker=WORKER, lasts=LEASE)
    lease = Lease(job.id, 1, WORKER)
    store.resolve_source(lease, sha=SHA, reference_sha="d" * 40)
    store.succeed(lease, result=None, report=evaluation().model_dump(mode="json"))
    return store.get(job.id)


def evaluation() -> EvaluationReport:
    """Return a complete report of an evaluation with one measurement."""
    model = EvaluatedModel(
        id="org/model-srr", sha=SHA, architecture="LlamaForCausalLM", is_artifact=True, weight_bytes=5_242_880
    )
    return EvaluationReport(
        model=model,
        source=model.model_copy(update={"id": "org/model", "is_artifact": False, "weight_bytes": 10_485_760}),
        measurements=(
            Measurement(
                evaluator="divergence",
                metric="divergence@32",
                title="Divergence from the source",
                unit="nats per token",
                direction="lower",
                source=0.0,
                compressed=0.0312,
                standard_error=0.0014,
                protocol="full softmax in float32",
                tokens=124,
            ),
        ),
        environment=report().environment,
        seconds={"divergence": 2.5},
        notes=("a short text",),
    )


def answered(store: JobStore, *, owner: str = "local") -> Job:
    """Return an evaluation that succeeded, with prompts answered by both models."""
    work = EvaluateWork(
        source=JobSource(model_id="org/model-srr"),
        reference=JobSource(model_id="org/model"),
        evaluators=(TextDivergenceSpec(), SamplesSpec(prompts=("The river",))),
    )
    job = submitted(store, JobSubmission(work=work), owner=owner)
    store.claim(job.id, 1, worker=WORKER, lasts=LEASE)
    lease = Lease(job.id, 1, WORKER)
    store.resolve_source(lease, sha=SHA, reference_sha="d" * 40)
    store.succeed(lease, result=None, report=side_by_side().model_dump(mode="json"))
    return store.get(job.id)


def side_by_side() -> EvaluationReport:
    """Return a complete report of an evaluation with answers of both models."""
    report = evaluation()
    row = Measurement(
        evaluator="samples",
        metric="same_tokens@64",
        title="Leading tokens answered alike",
        unit="",
        direction="higher",
        source=1.0,
        compressed=0.25,
        protocol="1 prompt continued greedily",
        samples=1,
        answers=(
            Answer(
                prompt="The river",
                source=" carries the letter to the sea.",
                compressed=" carries the boat.",
                same_tokens=2,
                source_tokens=8,
                compressed_tokens=4,
            ),
        ),
    )
    return report.model_copy(update={"measurements": (*report.measurements, row)})


def converted(store: JobStore, *, owner: str = "local") -> Job:
    """Return a conversion that succeeded."""
    work = ConvertWork(
        source=JobSource(model_id="org/model-srr"),
        target=GGUFSpec(),
        destination=JobDestination(repo_id="org/model-srr-gguf"),
    )
    job = submitted(store, JobSubmission(work=work), owner=owner)
    store.claim(job.id, 1, worker=WORKER, lasts=LEASE)
    store.resolve_source(Lease(job.id, 1, WORKER), sha=SHA)
    return finish(store, store.get(job.id), document=conversion())


def conversion() -> ConversionReport:
    """Return a complete report of a conversion."""
    return ConversionReport(
        model=ConvertedModel(
            id="org/model-srr",
            sha=SHA,
            architecture="LlamaForCausalLM",
            made_from="org/model",
            weight_bytes=5_242_880,
        ),
        target=GGUFSpec(),
        files=(
            ConvertedFile(path="README.md", size_bytes=2_048),
            ConvertedFile(path="model.gguf", size_bytes=7_340_032),
        ),
        weight_bytes=7_340_032,
        remarks=("Q6_K for 24 weights, Q + L·R merged",),
        environment=report().environment,
        seconds=2.5,
    )


ROWS = '{"prompt": "say 1", "completion": "well"}\n{"prompt": "say 2", "completion": "fine"}\n'
PREVIEW = Preview(row=1, pieces=(Piece(text="say 1", is_trained=False), Piece(text="well", is_trained=True)))


def tuning_spec() -> TuningSpec:
    """Return a fine-tuning of two steps over a grid of two learning rates."""
    spec = with_task(with_start(TuningSpec(), "srr"), "instructions")
    return with_fields(spec, {"schedule.max_steps": 2, "grid.learning_rates": [1e-4, 3e-4]}).resolved()


def training(store: JobStore, *, owner: str = "local", result: str = "adapter") -> Job:
    """Return a fine-tuning that has done a step and kept a checkpoint."""
    work = FinetuneWork(
        source=JobSource(model_id="org/model"),
        destination=JobDestination(repo_id="org/model-tuned"),
        tuning=with_fields(tuning_spec(), {"result.kind": result}),
        data=TrainingData(text=ROWS),
    )
    job = submitted(store, JobSubmission(work=work), owner=owner)
    store.claim(job.id, 1, worker=WORKER, lasts=LEASE)
    lease = Lease(job.id, 1, WORKER)
    store.resolve_source(lease, sha=SHA)
    cells = [{"learning_rate": rate, "seed": seed} for rate, seed in work.tuning.cells()]
    data = {"report": tuning().data.model_dump(mode="json"), "cells": cells}
    store.append_event(lease, "data", data)
    step = {"cell": 0.0, "step": 1.0, "loss": 2.5, "learning_rate": 1e-4, "tokens_per_second": 321.0}
    rows = [step, {"cell": 0.0, "step": 1.0, "validation_loss": 2.25}]
    store.append_event(lease, "metrics", {"rows": rows})
    checkpoint = {"cell": 0, "step": 1, "num_bytes": 2_097_152, "scores": {"loss": 2.25}, "is_best": True}
    store.append_event(lease, "checkpoint", checkpoint)
    store.progress(lease, stage=Stage.TRAIN, progress=0.5)
    return store.get(job.id)


def tuned(store: JobStore, *, kept: tuple[int, ...] = (), sha: str = "b" * 40, **choices: str) -> Job:
    """Return a fine-tuning that succeeded, some of its checkpoints published beside its result."""
    job = training(store, **choices)
    lease = Lease(job.id, 1, WORKER)
    store.publishing(lease)
    result = JobResult(repo_id="org/model-tuned", commit_sha=sha, commit_url=f"https://hub.example/commit/{sha}")
    report = tuning().model_copy(update={"kept": kept})
    store.succeed(lease, result=result, report=report.model_dump(mode="json"))
    return store.get(job.id)


def tuning() -> TuningReport:
    """Return a complete report of a fine-tuning."""
    spec = tuning_spec()
    part = SplitReport(rows=1, examples=1, tokens=8, trained_tokens=4, longest=8, truncated=0)
    cells = tuple(
        CellReport(
            learning_rate=rate,
            seed=seed,
            steps=2,
            best_step=2,
            best_score=2.125,
            end="finished",
            rows=tuple(
                StepRow(step=step, loss=2.75 - step / 4, learning_rate=rate, gradient_norm=1.5, tokens=8, seconds=0.1)
                for step in (1, 2)
            ),
            evaluations=tuple(EvaluationRow(step=step, scores={"loss": 2.375 - step / 8}) for step in range(3)),
        )
        for rate, seed in spec.cells()
    )
    base = report()
    return TuningReport(
        source=base.source,
        spec=spec,
        start=StartReport(
            kind="recipe",
            is_fresh=False,
            rank=32,
            base_sha256="e" * 64,
            trained_parameters=4096,
            frozen_bytes=1_048_576,
        ),
        data=DataReport(
            sha256="f" * 64,
            training=part,
            validation=part,
            duplicates=0,
            leaked=0,
            windows=1,
            steps_per_epoch=1,
            steps=2,
            previews=(PREVIEW,),
        ),
        metric="loss",
        is_higher_better=False,
        start_scores={"loss": 2.375},
        scores={"loss": 2.125},
        cells=cells,
        rates=tuple(RateReport(learning_rate=rate, mean=2.125, deviation=None, seeds=1) for rate, _ in spec.cells()),
        chosen=spec.cells()[1],
        environment=base.environment,
        seconds={"train": 0.2},
        notes=("a note",),
    )


def diverging(value: float, *, size_bytes: int = 5_242_880, seconds: float = 0.1) -> Report:
    """Return a complete report with a divergence in front of its perplexity."""
    row = Measurement(
        evaluator="divergence",
        metric="divergence@32",
        title="Divergence from the source",
        unit="nats per token",
        direction="lower",
        source=0.0,
        compressed=value,
        standard_error=value / 20,
        protocol="full softmax in float32",
        tokens=124,
        text=report().calibration,
    )
    whole = report()
    sizes = whole.size_bytes.model_copy(update={"compressed": size_bytes})
    changes = {"measurements": (row, *whole.measurements), "size_bytes": sizes, "seconds": {"compress": seconds}}
    return whole.model_copy(update=changes)
