"""What the main resources look like, for the schema: values of the real types, so that none can go stale."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from service.api.key_schemas import UsageResource
from service.api.keys import key_resource
from service.api.recipes import recipe_resource
from service.api.schemas import EventData, job_resource
from service.api.workers import worker_resource
from service.edge.problem import Problem, ProblemField
from service.jobs.numbers import JobNumbers
from service.jobs.schema import Job, JobResult, JobState
from service.jobs.work import CompressWork, JobDestination, JobSource
from service.jobs.workers import Worker
from service.keys.schema import ApiKey, Quota
from service.notifications.schema import Endpoint
from service.releases.schema import Watch
from srr_core.conversion_report import ConversionReport, ConvertedFile, ConvertedModel
from srr_core.evaluation_report import EvaluatedModel, EvaluationReport
from srr_core.recipe import DEFAULT_RECIPE, PRESETS
from srr_core.recipe.exporters import GGUFSpec
from srr_core.recipe.stages import Stage
from srr_core.report import Environment, Measurement

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_JOB_ID = "job_01k9z6h3v2m8q4t7w1x5y0c3d6"
_SHA = "0123456789abcdef0123456789abcdef01234567"
_NUMBERS = JobNumbers(
    divergence=0.0312,
    divergence_error=0.0014,
    perplexity=9.61,
    perplexity_change=0.021,
    bits_of_model=5.1,
    bits_per_weight=4.25,
    size_bytes=702_000_000,
)


def examples() -> dict[str, Any]:
    """Return one example per resource, by the name of its schema."""
    return {type(value).__name__: value.model_dump(mode="json") for value in _values()}


def _values() -> Iterator[BaseModel]:
    recipe = PRESETS[DEFAULT_RECIPE]
    commit_url = f"https://huggingface.co/org/model-gptq-4bit/commit/{_SHA}"
    yield job_resource(
        Job(
            id=_JOB_ID,
            state=JobState.SUCCEEDED,
            stage=Stage.PUBLISH,
            progress=1.0,
            work=CompressWork(
                source=JobSource(model_id="org/model", sha=_SHA),
                destination=JobDestination(repo_id="org/model-gptq-4bit"),
                recipe=recipe,
            ),
            tags=("nightly",),
            result=JobResult(repo_id="org/model-gptq-4bit", commit_sha=_SHA, commit_url=commit_url, numbers=_NUMBERS),
            has_report=True,
            created_at=_NOW,
            updated_at=_NOW + timedelta(minutes=42),
            started_at=_NOW + timedelta(seconds=2),
            finished_at=_NOW + timedelta(minutes=42),
        )
    )
    yield EvaluationReport(
        model=EvaluatedModel(
            id="org/model-srr", sha=_SHA, architecture="LlamaForCausalLM", is_artifact=True, weight_bytes=612_000_000
        ),
        source=EvaluatedModel(
            id="org/model", sha=_SHA, architecture="LlamaForCausalLM", is_artifact=False, weight_bytes=2_200_000_000
        ),
        measurements=(
            Measurement(
                evaluator="divergence",
                metric="divergence@2048",
                title="Divergence from the source",
                unit="nats per token",
                direction="lower",
                source=0.0,
                compressed=0.0312,
                standard_error=0.0014,
                protocol="mean KL(source || model) of the full softmax in float32",
                tokens=65_504,
            ),
        ),
        environment=Environment(
            core_version="0.1.0", versions={"torch": "2.13.0"}, device="cpu", threads=8, peak_memory_bytes=3_000_000_000
        ),
        seconds={"divergence": 180.0},
    )
    yield ConversionReport(
        model=ConvertedModel(
            id="org/model-srr",
            sha=_SHA,
            architecture="LlamaForCausalLM",
            made_from="org/model",
            weight_bytes=612_000_000,
        ),
        target=GGUFSpec(),
        files=(ConvertedFile(path="model.gguf", size_bytes=905_000_000),),
        weight_bytes=905_000_000,
        remarks=("Q6_K, Q + L·R merged",),
        environment=Environment(
            core_version="0.1.0", versions={"torch": "2.13.0"}, device="cpu", threads=8, peak_memory_bytes=3_000_000_000
        ),
        seconds=42.0,
    )
    yield EventData(
        sequence=7, attempt=1, kind="progress", data={"stage": Stage.COMPRESS, "progress": 0.25}, created_at=_NOW
    )
    yield recipe_resource(recipe)
    yield key_resource(
        ApiKey(
            id="0123456789abcdef",
            name="nightly",
            owner="ann",
            scopes=("jobs:read", "jobs:write"),
            created_at=_NOW,
            expires_at=_NOW + timedelta(days=90),
        )
    )
    yield UsageResource(queued=1, running=2, minutes_last_day=84.5, quota=Quota())
    yield worker_resource(
        Worker(
            name="worker_01k9z6h3v2m8q4t7w1x5y0c3d6@gpu1",
            host="gpu1",
            device="cuda",
            version="0.1.0",
            started_at=_NOW - timedelta(hours=3),
            seen_at=_NOW,
            job_id=_JOB_ID,
        ),
        now=_NOW,
    )
    yield Watch(
        id="watch_01k9z6h3v2m8q4t7w1x5y0c3d6",
        owner="ann",
        name="our models",
        pattern="org/*",
        recipes=(recipe,),
        destination="org/{name}-{recipe}-{total_bits}bit",
        created_at=_NOW,
    )
    yield Endpoint(
        id="endpoint_01k9z6h3v2m8q4t7w1x5y0c3d6", owner="ann", url="https://example.org/hooks/srr", created_at=_NOW
    )
    yield Problem(
        type="urn:srr:problem:invalid_request",
        title=HTTPStatus.UNPROCESSABLE_ENTITY.phrase,
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        detail="The request is not valid; `errors` names each wrong field.",
        instance="/v1/jobs",
        code="invalid_request",
        request_id="0123456789abcdef0123456789abcdef",
        errors=[ProblemField(field="body.source.model_id", message="is needed")],
    )
