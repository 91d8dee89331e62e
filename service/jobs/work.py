"""What a job is to do, as a value: one kind of work per class, told apart by `kind`."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from srr_core.recipe import Recipe
from srr_core.recipe.stages import COMPRESSION, Stage

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
    """The model to compress. `sha` is filled in when the revision has been resolved."""

    model_id: RepoId
    revision: str = Field(default="main", min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    sha: str | None = None


class JobDestination(_Frozen):
    """The repository the artifact is published to."""

    repo_id: RepoId
    private: bool | None = Field(default=None, description="None: as private as the source.")


class JobText(_Frozen):
    """A text to calibrate or evaluate on. Without `text` the bundled WikiText-2 slice is used."""

    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT_CHARACTERS)
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Of a text that was uploaded with `POST /v1/texts`, in place of the text itself.",
    )
    num_sequences: int | None = Field(default=None, ge=1, le=100_000)
    sequence_length: int | None = Field(default=None, ge=8, le=131_072)


class UploadedText(_Frozen):
    """A text that the service keeps, and how jobs name it."""

    sha256: str
    num_bytes: int
    kept_until: datetime = Field(description="A text that no job names by then is deleted.")


class WorkBase(_Frozen):
    """What every kind of work has: a model it begins with and a repository it ends in."""

    kind: str
    source: JobSource
    destination: JobDestination
    acknowledge_license: bool = Field(default=False, description="A person has read an unclear licence.")

    def at_commit(self, sha: str) -> Self:
        """Return the work with its source pinned to a commit."""
        return self.model_copy(update={"source": self.source.model_copy(update={"sha": sha})})

    @property
    def recipe_name(self) -> str:
        """The recipe jobs are filtered by; empty for work without one."""
        return ""

    @property
    def detail(self) -> str:
        """What else to say of it in a list; empty for nothing."""
        return ""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages a run goes through, in order."""
        return tuple(COMPRESSION)


class CompressWork(WorkBase):
    """Write a model as W ≈ Q + L·R and publish it."""

    kind: Literal["compress"] = "compress"
    recipe: Recipe
    calibration: JobText | None = None
    evaluation: JobText | None = None

    @property
    def recipe_name(self) -> str:
        """The name of the recipe."""
        return self.recipe.name

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, without an evaluation where the recipe asks for none."""
        return tuple(
            stage for stage in COMPRESSION if stage is not Stage.EVALUATE or self.recipe.evaluation is not None
        )

    @property
    def detail(self) -> str:
        """Bits and rank."""
        return f"{self.recipe.quantization_bits} bits, rank {self.recipe.rank}"


Work = CompressWork
"""Every kind there is. From the second on: `Annotated[CompressWork | ..., Field(discriminator="kind")]`."""


def named_texts(work: Work) -> set[str]:
    """Return the digests of texts that work names instead of bringing them."""
    fields = (getattr(work, name) for name in type(work).model_fields)
    return {one.sha256 for one in fields if isinstance(one, JobText) and one.text is None and one.sha256 is not None}
