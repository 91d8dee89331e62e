"""What a job is to do, as a value: one kind of work per class, told apart by `kind`."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from srr_core.recipe import Recipe
from srr_core.recipe.evaluations import EVALUATION_KINDS, AnyEvaluationSpec
from srr_core.recipe.stages import COMPRESSION, EVALUATION, Shares, Stage

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
        """Bits and rank."""
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


Work = Annotated[CompressWork | EvaluateWork, Field(discriminator="kind")]
"""Every kind there is."""


def named_texts(work: Work) -> set[str]:
    """Return the digests of texts that work names instead of bringing them."""
    fields = (getattr(work, name) for name in type(work).model_fields)
    return {one.sha256 for one in fields if isinstance(one, StoredText) and one.text is None and one.sha256 is not None}
