"""What clients send to and get from the operations that look at a model before a job."""

from pydantic import BaseModel, Field

from srr_core.recipe.verdicts import CompatibilityRow
from srr_core.tuners.data_report import DataSketch


class ProblemNote(BaseModel):
    """One reason why a job would not be accepted or would fail, with what to do about it."""

    code: str = Field(description="The same as in the failure of a job.")
    message: str


class ModelResource(BaseModel):
    """A model at a commit, as far as it is known without downloading a weight."""

    model_id: str = Field(description="The canonical id; differs from the requested one after a rename.")
    sha: str
    private: bool
    gated: bool
    license: str | None
    architectures: tuple[str, ...]
    pipeline_tag: str | None
    parameters: int | None = Field(description="Null when the weights cannot be read.")
    dtypes: dict[str, int] = Field(description="Number of values of each type.")
    weight_bytes: int
    download_bytes: int
    header_bytes: int | None = Field(
        default=None,
        description="Of the weight files: all that was read of them. Null when they cannot be read.",
    )
    url: str | None
    problems: list[ProblemNote] = Field(description="Why it cannot be compressed; empty when it can.")


class Estimate(BaseModel):
    """What a job would take and make. Every number is an estimate from names, shapes and earlier jobs."""

    layers: int = Field(description="Weights that would be compressed.")
    bits_per_weight: float = Field(description="Over these weights, L and R in 16 bits counted.")
    bits_of_model: float | None = Field(
        default=None, description="Over all weights, those that stay as they are included; null in older answers."
    )
    artifact_bytes: int
    scratch_bytes: int = Field(description="Disk a worker needs while it works.")
    memory_bytes: int = Field(description="Peak memory where layers are computed: the GPU's, or the machine's.")
    operations: float = Field(description="Floating-point operations of calibration and compression.")
    seconds: float | None = Field(
        description="From your earlier jobs of the same recipe, else from the operations and the speed of the fastest "
        "worker, evaluation left out; null while there is neither."
    )
    gpu_minutes: float | None = Field(description="The same time in minutes, where the fastest worker has a GPU.")


class TrainingEstimate(BaseModel):
    """What a fine-tuning would take by a plain model of sizes and rows; the worker's tokenizer counts better."""

    layers: int = Field(description="Weights whose L·R would be trained.")
    trained_parameters: int
    trainings: int = Field(description="Of the grid: learning rates times seeds.")
    steps: int | None = Field(
        description="Of one training. Exact for rows that are not packed; else from one token for four characters. "
        "Null where the rows are on the Hub."
    )
    tokens: int | None = Field(description="Read in one training, from one token for four characters.")
    base_bytes: int = Field(description="Of the frozen model in memory.")
    memory_bytes: int = Field(
        description="Peak where layers are computed: the base, 16 bytes for each trained parameter, and what one pass "
        "keeps for its way back; or a compression before it, if that takes more."
    )
    scratch_bytes: int = Field(description="Disk a worker needs while it works.")
    operations: float | None = Field(description="Floating-point operations of all trainings with their evaluations.")
    tokens_per_second: float | None = Field(
        description="Of your earlier fine-tunings of this model in the same precision; null before the first."
    )
    seconds: float | None = Field(
        description="From these tokens per second; else from the operations at half the speed of the fastest worker's "
        "large products, which is a guess. With the compression before it. Null while there is neither."
    )
    gpu_minutes: float | None = Field(description="The same time in minutes, where the fastest worker has a GPU.")


class Validation(BaseModel):
    """What a submission would lead to. Nothing was changed to find out."""

    valid: bool
    problems: list[ProblemNote]
    notes: list[str] = Field(
        description="What could not be found out here and is left to the worker, and what is worth knowing before."
    )
    model: ModelResource | None = Field(description="Null when the model cannot be found or read.")
    destination_exists: bool = Field(description="An artifact of ours of the same model that would be replaced.")
    destination_private: bool | None = Field(description="Whether the result would be private; null when refused.")
    destination_writable: bool | None = Field(
        description="Null without a `hub_token` of yours: the worker's own token decides then."
    )
    estimate: Estimate | None
    training: TrainingEstimate | None = Field(default=None, description="For fine-tunings, in place of `estimate`.")
    compatibility: list[CompatibilityRow] = Field(description="Which runtimes load the result, and how we know.")
    data: DataSketch | None = Field(
        default=None,
        description="What the rows of a fine-tuning are, as far as that is known without the tokenizer: pieces of "
        "three examples, those that would be learned marked.",
    )
