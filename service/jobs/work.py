"""What a job is to do, as a value: one kind of work per class, told apart by `kind`."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from srr_core.recipe import Recipe
from srr_core.recipe.evaluations import EVALUATION_KINDS, AnyEvaluationSpec, SamplesSpec
from srr_core.recipe.exporters import ConversionSpec
from srr_core.recipe.stages import COMPRESSION, CONVERSION, EVALUATION, TUNING, Shares, Stage
from srr_core.recipe.tuning import ArtifactStart, RecipeStart, TuningSpec

RepoId = Annotated[
    str,
    Field(
        min_length=3,
        max_length=96,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        examples=["org/model"],
    ),
]
MAX_TEXT_CHARACTERS = 4_000_000
MAX_DATA_CHARACTERS = 16_000_000
"""Of training data that comes with a job: half of the largest request. Larger data lies in a dataset of the Hub."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobSource(_Frozen):
    """A model to work on. `sha` is filled in when the revision has been resolved."""

    model_id: RepoId
    revision: str = Field(default="main", min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    sha: str | None = None


class JobDestination(_Frozen):
    """The repository a result is published to."""

    repo_id: RepoId
    private: bool | None = Field(default=None, description="None: as private as the source.")


class StoredText(_Frozen):
    """A text that comes with a job."""

    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT_CHARACTERS)
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Of a text that was uploaded with `POST /v1/texts`, in place of the text itself.",
    )


class JobText(StoredText):
    """A text to calibrate or evaluate on. Without `text` the bundled WikiText-2 slice is used."""

    num_sequences: int | None = Field(default=None, ge=1, le=100_000)
    sequence_length: int | None = Field(default=None, ge=8, le=131_072)


class UploadedText(_Frozen):
    """A text that the service keeps, and how jobs name it."""

    sha256: str
    num_bytes: int
    kept_until: datetime = Field(description="A text that no job names by then is deleted.")


class WorkBase(_Frozen):
    """What every kind of work has: a model it begins with, and the stages it goes through."""

    kind: str
    source: JobSource
    acknowledge_license: bool = Field(default=False, description="A person has read an unclear licence.")

    def at_commit(self, sha: str, *, reference_sha: str | None = None) -> Self:
        """Return the work with its source pinned to a commit, and what it is compared with, where there is such."""
        return self.model_copy(update={"source": self.source.model_copy(update={"sha": sha})})

    @property
    def models(self) -> tuple[JobSource, ...]:
        """The models it reads, the source first."""
        return (self.source,)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets of the hub it reads as its owner may; public ones of evaluators are nobody's."""
        return ()

    @property
    def published_to(self) -> JobDestination | None:
        """Where the result is published; None for work that publishes nothing."""
        return None

    @property
    def destination_id(self) -> str:
        """The repository the result is published to; empty for none."""
        return "" if self.published_to is None else self.published_to.repo_id

    @property
    def recipe_name(self) -> str:
        """The recipe jobs are filtered by; empty for work without one."""
        return ""

    @property
    def detail(self) -> str:
        """What else to say of it in a list; empty for nothing."""
        return ""

    @property
    def max_running(self) -> int | None:
        """It waits while its owner has so many jobs at work, whatever their quota; None: no bound of its own."""
        return None

    @property
    def shares(self) -> Shares:
        """The stages a run may go through, and how much of it each takes."""
        return COMPRESSION

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages a run goes through, in order."""
        return tuple(self.shares)


class CompressWork(WorkBase):
    """Write a model as W ≈ Q + L·R and publish it."""

    kind: Literal["compress"] = "compress"
    destination: JobDestination
    recipe: Recipe
    calibration: JobText | None = None
    evaluation: JobText | None = None

    @property
    def published_to(self) -> JobDestination:
        """The destination."""
        return self.destination

    @property
    def recipe_name(self) -> str:
        """The name of the recipe."""
        return self.recipe.name

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, without an evaluation where the recipe asks for none."""
        return tuple(
            stage for stage in self.shares if stage is not Stage.EVALUATE or self.recipe.evaluation is not None
        )

    @property
    def detail(self) -> str:
        """Bits and rank, or what a budget aims at."""
        if self.recipe.budget is not None:
            return self.recipe.budget.words
        return f"{self.recipe.quantization_bits} bits, rank {self.recipe.rank}"


def each_once(specs: tuple[AnyEvaluationSpec, ...]) -> tuple[AnyEvaluationSpec, ...]:
    """Return evaluators that are of different kinds. Raises ValueError."""
    kinds = [spec.kind for spec in specs]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is named twice; one job measures each once")
    return specs


class EvaluateWork(WorkBase):
    """Measure a model or an artifact, alone or against another model, and publish the numbers or not."""

    kind: Literal["evaluate"] = "evaluate"
    reference: JobSource | None = Field(default=None, description="What it is compared with, such as what it is of.")
    evaluators: Annotated[tuple[AnyEvaluationSpec, ...], AfterValidator(each_once)] = Field(
        default=(), max_length=len(EVALUATION_KINDS), description="None: those that suit the model."
    )
    text: StoredText | None = Field(default=None, description="To measure on; by default a slice of WikiText-2.")
    pairs: StoredText | None = Field(default=None, description="Labelled or scored pairs: rows of JSON, or of TSV.")
    destination: JobDestination | None = Field(default=None, description="None: the report stays with the job.")

    def at_commit(self, sha: str, *, reference_sha: str | None = None) -> Self:
        """Return the work with both models pinned to commits."""
        pinned = super().at_commit(sha)
        if self.reference is None or reference_sha is None:
            return pinned
        return pinned.model_copy(update={"reference": self.reference.model_copy(update={"sha": reference_sha})})

    @property
    def models(self) -> tuple[JobSource, ...]:
        """The model, and what it is compared with."""
        return (self.source,) if self.reference is None else (self.source, self.reference)

    @property
    def published_to(self) -> JobDestination | None:
        """The destination."""
        return self.destination

    @property
    def max_running(self) -> int | None:
        """Where prompts are answered, one at a time for each owner: a person tries one after the other."""
        return 1 if any(isinstance(spec, SamplesSpec) for spec in self.evaluators) else None

    @property
    def detail(self) -> str:
        """What it measures, and against what."""
        measured = ", ".join(spec.kind for spec in self.evaluators)
        against = "" if self.reference is None else f"against {self.reference.model_id}"
        return ", ".join(filter(None, (measured, against)))

    @property
    def shares(self) -> Shares:
        """Those of an evaluation."""
        return EVALUATION

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, without publishing where nothing is published."""
        return tuple(stage for stage in self.shares if stage is not Stage.PUBLISH or self.destination is not None)


class ConvertWork(WorkBase):
    """Write an artifact of ours in the format of another runtime, and publish that."""

    kind: Literal["convert"] = "convert"
    target: ConversionSpec
    destination: JobDestination

    @property
    def published_to(self) -> JobDestination:
        """The destination."""
        return self.destination

    @property
    def detail(self) -> str:
        """Into which format."""
        return f"to {self.target.kind}"

    @property
    def shares(self) -> Shares:
        """Those of a conversion."""
        return CONVERSION


class TrainingData(StoredText):
    """Rows to learn from that come with the job."""

    text: str | None = Field(default=None, min_length=1, max_length=MAX_DATA_CHARACTERS)
    format: Literal["jsonl", "csv", "tsv", "text"] = Field(default="jsonl", description="What the text is.")


class DatasetFile(_Frozen):
    """Rows to learn from in a dataset of the Hub. A commit, because a branch would move between two attempts."""

    dataset: RepoId
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="A commit of the dataset.")
    path: str = Field(
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*\.(jsonl|ndjson|csv|tsv|parquet|txt)$",
        description="One file of it: JSON lines, CSV, TSV, Parquet or text.",
    )


def _data_tag(data: Any) -> str:
    is_dataset = "dataset" in data if isinstance(data, dict) else isinstance(data, DatasetFile)
    return "dataset" if is_dataset else "upload"


AnyTrainingData = Annotated[
    Annotated[TrainingData, Tag("upload")] | Annotated[DatasetFile, Tag("dataset")], Discriminator(_data_tag)
]


class FinetuneWork(WorkBase):
    """Compress a model where the start needs it, train L·R on it, and publish the result."""

    kind: Literal["finetune"] = "finetune"
    destination: JobDestination
    tuning: TuningSpec
    data: AnyTrainingData
    validation: TrainingData | None = Field(default=None, description="Rows to judge by; else a share of the others.")
    calibration: StoredText | None = Field(default=None, description="Where something is compressed.")
    neutral: StoredText | None = Field(default=None, description="To measure on how far the model moves.")

    def resolved(self, *, starts_fresh: bool | None = None) -> Self:
        """Return the work without any "auto", as far as that is known; see `TuningSpec.resolved`."""
        if isinstance(self.tuning.start, ArtifactStart) and starts_fresh is None:
            return self
        return self.model_copy(update={"tuning": self.tuning.resolved(starts_fresh=starts_fresh)})

    @property
    def datasets(self) -> tuple[str, ...]:
        """What it learns from, where that lies on the hub."""
        return (self.data.dataset,) if isinstance(self.data, DatasetFile) else ()

    @property
    def published_to(self) -> JobDestination:
        """The destination."""
        return self.destination

    @property
    def takes_artifact(self) -> bool:
        """Whether its source is a result of ours, taken as it is."""
        return isinstance(self.tuning.start, ArtifactStart)

    @property
    def recipe_name(self) -> str:
        """The recipe it starts from; the kind of start where there is none."""
        start = self.tuning.start
        return start.recipe.name if isinstance(start, RecipeStart) else start.kind

    @property
    def detail(self) -> str:
        """Task, learning rate and epochs."""
        tuning = self.tuning
        if tuning.schedule.max_steps == 0:
            return f"{tuning.task.kind}, published as it is"
        rate = tuning.optimizer.learning_rate
        said = "learning rate auto" if rate == "auto" else f"learning rate {rate:g}"
        return f"{tuning.task.kind}, {said}, {tuning.schedule.epochs} epochs"

    @property
    def shares(self) -> Shares:
        """Those of a fine-tuning."""
        return TUNING

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, without a compression where the start is one already or needs none."""
        compresses = isinstance(self.tuning.start, RecipeStart)
        return tuple(stage for stage in self.shares if stage is not Stage.COMPRESS or compresses)


Work = Annotated[CompressWork | EvaluateWork | FinetuneWork | ConvertWork, Field(discriminator="kind")]
"""Every kind there is."""


def named_texts(work: Work) -> dict[str, str]:
    """Return the digests of texts that work names instead of bringing them, by its fields."""
    fields = {name: getattr(work, name) for name in type(work).model_fields}
    return {
        name: value.sha256
        for name, value in fields.items()
        if isinstance(value, StoredText) and value.text is None and value.sha256 is not None
    }
