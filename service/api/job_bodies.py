"""What clients send to ask for a job: one body for each kind of work, told apart by `kind`."""

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from service.api.schemas import RequestBody
from service.edge.fields import MAX_TAGS, HubToken
from service.edge.fields import Tag as JobTag
from service.jobs.schema import JobSubmission
from service.jobs.work import (
    AnyTrainingData,
    CompressWork,
    ConvertWork,
    EvaluateWork,
    FinetuneWork,
    JobDestination,
    JobSource,
    JobText,
    RepoId,
    StoredText,
    TrainingData,
    Work,
    each_once,
)
from srr_core.errors import RecipeError
from srr_core.recipe import DEFAULT_RECIPE, parse_recipe
from srr_core.recipe.evaluations import EVALUATION_KINDS, AnyEvaluationSpec, EvaluationKind
from srr_core.recipe.exporters import ConversionKind, ConversionSpec
from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.tuning_options import with_names

_SUBMISSION: dict[str, Any] = {
    "source": {"model_id": "org/model", "revision": "main"},
    "recipe": "srr",
    "destination": {"repo_id": "org/model-srr"},
}
_CUSTOM: dict[str, Any] = {
    **_SUBMISSION,
    "recipe": {"name": "srr", "quantizer": {"num_bits": 2, "block_size": 16}, "rank": 16},
    "calibration": {"num_sequences": 64, "sequence_length": 256},
    "tags": ["nightly"],
}
_EVALUATION: dict[str, Any] = {
    "kind": "evaluate",
    "source": {"model_id": "org/model-srr"},
    "reference": {"model_id": "org/model"},
    "evaluators": ["divergence", {"kind": "harness", "suite": "quick", "limit": 100}],
}

_CONVERSION: dict[str, Any] = {
    "kind": "convert",
    "source": {"model_id": "org/model-srr"},
    "target": "gguf",
    "destination": {"repo_id": "org/model-srr-gguf"},
}
_TUNING: dict[str, Any] = {
    "kind": "finetune",
    "source": {"model_id": "org/model"},
    "destination": {"repo_id": "org/model-tuned"},
    "data": {"text": '{"prompt": "What is 2 + 2?", "completion": "4"}\n', "format": "jsonl"},
    "tuning": {"start": "srr", "task": "instructions", "rank": 32, "schedule": {"epochs": 2}},
}


class SourceBody(RequestBody):
    """A model: a repository and a branch, tag or commit of it."""

    model_id: RepoId
    revision: str = Field(default="main", min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")

    def as_source(self) -> JobSource:
        """Return the model, not pinned yet."""
        return JobSource(model_id=self.model_id, revision=self.revision)


class _JobBody(RequestBody, ABC):
    """What every request for a job may say."""

    source: SourceBody
    tags: tuple[JobTag, ...] = Field(default=(), max_length=MAX_TAGS)
    force: bool = Field(
        default=False,
        description="Run even when a job of yours did or does the same: otherwise that job is returned as it is, and "
        "the tags and the Hub token of this request are not added to it.",
    )
    hub_token: HubToken | None = Field(
        default=None,
        description="Used for this job only: stored encrypted, never returned, deleted when the job ends.",
    )

    @abstractmethod
    def work(self) -> Work:
        """Return what is to be done. Raises RecipeError."""

    def submission(self) -> JobSubmission:
        """Return what the job domain is asked for. Raises RecipeError: it names something unknown or out of range."""
        return JobSubmission(work=self.work(), tags=self.tags)


class JobCreate(_JobBody):
    """A request to compress one model and publish the result."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_SUBMISSION, _CUSTOM]})

    kind: Literal["compress"] = Field(default="compress", description="What is to be done.")
    recipe: str | dict[str, Any] = Field(
        default=DEFAULT_RECIPE,
        description="A name from `GET /v1/recipes`, or an object. An object that names a recipe and gives other "
        "fields is that recipe with these fields replaced.",
    )
    destination: JobDestination
    calibration: JobText | None = None
    evaluation: JobText | None = None
    acknowledge_license: bool = Field(
        default=False,
        description="You have read the model's licence and it allows this. Needed where the Hub says none, or `other`.",
    )

    def work(self) -> CompressWork:
        """Return the compression."""
        return CompressWork(
            source=self.source.as_source(),
            destination=self.destination,
            recipe=parse_recipe(self.recipe),
            calibration=self.calibration,
            evaluation=self.evaluation,
            acknowledge_license=self.acknowledge_license,
        )


def _by_name(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


NamedEvaluation = Annotated[
    AnyEvaluationSpec, BeforeValidator(_by_name, json_schema_input_type=EvaluationKind | AnyEvaluationSpec)
]


class EvaluationCreate(_JobBody):
    """A request to measure a model or an artifact, alone or against another model."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EVALUATION]})

    kind: Literal["evaluate"]
    reference: SourceBody | None = Field(
        default=None, description="What it is compared with, such as the model it was made from."
    )
    evaluators: Annotated[tuple[NamedEvaluation, ...], AfterValidator(each_once)] = Field(
        default=(),
        max_length=len(EVALUATION_KINDS),
        description="Names, or objects with their fields. None: divergence and perplexity, or what suits the model.",
    )
    text: StoredText | None = Field(default=None, description="To measure on; by default a slice of WikiText-2.")
    pairs: StoredText | None = Field(
        default=None, description="For glue and sentence-similarity: rows of JSON, or columns between tabs."
    )
    destination: JobDestination | None = Field(
        default=None, description="A repository for the report; null leaves it with the job."
    )

    def work(self) -> EvaluateWork:
        """Return the evaluation."""
        return EvaluateWork(
            source=self.source.as_source(),
            reference=None if self.reference is None else self.reference.as_source(),
            evaluators=self.evaluators,
            text=self.text,
            pairs=self.pairs,
            destination=self.destination,
        )


class ConversionCreate(_JobBody):
    """A request to write an artifact in the format of another runtime, and publish that."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_CONVERSION]})

    kind: Literal["convert"]
    target: Annotated[
        ConversionSpec, BeforeValidator(_by_name, json_schema_input_type=ConversionKind | ConversionSpec)
    ] = Field(description='A name, or an object with its fields, as `{"kind": "gguf", "merged": "q8_0"}`.')
    destination: JobDestination
    acknowledge_license: bool = Field(
        default=False,
        description="You have read the artifact's licence and it allows this. Needed where the Hub says none, or "
        "`other`.",
    )

    def work(self) -> ConvertWork:
        """Return the conversion."""
        return ConvertWork(
            source=self.source.as_source(),
            target=self.target,
            destination=self.destination,
            acknowledge_license=self.acknowledge_license,
        )


def _named(document: object) -> object:
    try:
        return with_names(document)
    except RecipeError as error:  # pydantic collects ValueErrors, with the place they belong to
        raise ValueError(str(error)) from error


def _with_rows(data: AnyTrainingData | None) -> AnyTrainingData | None:
    if isinstance(data, TrainingData) and data.text is None and data.sha256 is None:
        raise ValueError("give the rows as text or by the sha256 of an uploaded one, or a file of a dataset on the Hub")
    return data


def _with_text(text: StoredText | None) -> StoredText | None:
    if text is not None and text.text is None and text.sha256 is None:
        raise ValueError("give a text, or the sha256 of an uploaded one")
    return text


class FinetuneCreate(_JobBody):
    """A request to fine-tune a model, compressed where the start needs it, and publish the result."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_TUNING]})

    kind: Literal["finetune"]
    destination: JobDestination
    data: Annotated[AnyTrainingData, AfterValidator(_with_rows)] = Field(
        description="Rows to learn from: the text of a file, the `sha256` of an uploaded one, or a file of a dataset "
        "on the Hub at a commit."
    )
    tuning: Annotated[TuningSpec, BeforeValidator(_named, json_schema_input_type=dict[str, Any])] = Field(
        default=TuningSpec(),
        description="Fields of the fine-tuning that differ from the usual ones. `start` and `task` may be names, such "
        'as `"srr"` or `"artifact"`, and `"instructions"` or `"glue:sst2"`; `"auto"` is answered with what it is.',
    )
    validation: Annotated[TrainingData | None, AfterValidator(_with_rows)] = Field(
        default=None, description="Rows to judge by; by default a share of the others."
    )
    calibration: Annotated[StoredText | None, AfterValidator(_with_text)] = Field(
        default=None, description="Where something is compressed; by default a slice of WikiText-2."
    )
    neutral: Annotated[StoredText | None, AfterValidator(_with_text)] = Field(
        default=None, description="To measure on how far the model moves."
    )
    acknowledge_license: bool = Field(
        default=False,
        description="You have read the model's licence and it allows this. Needed where the Hub says none, or `other`.",
    )

    def work(self) -> FinetuneWork:
        """Return the fine-tuning, its "auto" resolved as far as it is known."""
        work = FinetuneWork(
            source=self.source.as_source(),
            destination=self.destination,
            tuning=self.tuning,
            data=self.data,
            validation=self.validation,
            calibration=self.calibration,
            neutral=self.neutral,
            acknowledge_license=self.acknowledge_license,
        )
        return work.resolved()


def _kind_of(body: Any) -> Any:
    if isinstance(body, dict):
        return body.get("kind", "compress")
    return getattr(body, "kind", None)


AnyJobCreate = Annotated[
    Annotated[JobCreate, Tag("compress")]
    | Annotated[EvaluationCreate, Tag("evaluate")]
    | Annotated[FinetuneCreate, Tag("finetune")]
    | Annotated[ConversionCreate, Tag("convert")],
    Discriminator(
        _kind_of,
        custom_error_type="unknown_kind",
        custom_error_message="the body is an object whose kind is compress (by default), evaluate, finetune or convert",
    ),
]
"""A request for a job of any kind; without a kind, a compression."""
