"""How a compressed model is fine-tuned, as data: start, task, data, optimizer, schedule, checkpoints, result."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from srr_core.errors import RecipeError
from srr_core.recipe.base import Spec
from srr_core.recipe.budget import MAX_RANK
from srr_core.recipe.calibration import EvaluationSpec
from srr_core.recipe.presets import PRESETS, override, parse_recipe
from srr_core.recipe.quantizers import QuantizerSpec
from srr_core.recipe.recipe import Recipe
from srr_core.recipe.tuning_tasks import GSM8KTask, TaskSpec, TextTask

STARTS = ("lora", "qlora", "loftq", "lq-lora", "qera-approx", "qera-exact", "srr-paper", "srr", "srr-iterative")
"""Where a fine-tuning may begin, worst initial error first: 16 bit, Q alone, and Q + L·R by these recipes."""
FRESH_LEARNING_RATE = 5e-4
LOW_RANK_LEARNING_RATE = 2e-4
"""What "auto" means. A heuristic: factors of full size break at rates that a fresh adapter needs; on SST-2 at 2.5 bits
and rank 32 the best rates were 1e-3 for Q alone and 1e-4 to 3e-4 for every start with L·R."""
SLOWED_FACTOR = 5.0
"""Slowing by learning rates holds back most ranks (64 to 89 % of them, measured), so the others need a higher rate."""


def _recipe(value: object) -> object:
    """Return the recipe that a name, or an object that starts from a name, stands for."""
    if not isinstance(value, str | Mapping):
        return value
    try:
        return parse_recipe(value)
    except RecipeError as error:  # pydantic collects ValueErrors, with the place they belong to
        raise ValueError(str(error)) from error


class LoRAStart(Spec):
    """The 16-bit model itself, with a fresh adapter: what the other starts are measured against."""

    kind: Literal["lora"] = "lora"


class RecipeStart(Spec):
    """The model compressed by a recipe; its L·R goes on learning, or a fresh adapter where its rank is 0."""

    kind: Literal["recipe"] = "recipe"
    recipe: Recipe

    @field_validator("recipe", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return _recipe(value)


class ArtifactStart(Spec):
    """A result of ours, compressed or fine-tuned in 16 bits, as it was published: its own L·R goes on learning."""

    kind: Literal["artifact"] = "artifact"
    checkpoint: int | None = Field(
        default=None, ge=0, description="Steps of a checkpoint that it keeps: that L·R in place of the published one."
    )


StartSpec = Annotated[LoRAStart | RecipeStart | ArtifactStart, Field(discriminator="kind")]


class DataSpec(Spec):
    """How rows become examples. Files are arguments of a run, not part of its specification."""

    format: Literal["auto", "jsonl", "csv", "tsv", "parquet", "text"] = Field(
        default="auto", description="auto: by the ending of the file's name."
    )
    window: int = Field(default=1024, ge=8, le=131_072, description="Tokens of the longest example.")
    too_long: Literal["refuse", "split", "truncate"] = Field(
        default="refuse", description="split makes several examples of one text; truncate drops what is beyond."
    )
    duplicates: Literal["keep", "drop"] = "keep"
    max_rows: int | None = Field(default=None, ge=1)
    validation_share: float = Field(
        default=0.1, gt=0.0, le=0.5, description="Of the rows, where no validation file is given."
    )


class OptimizerSpec(Spec):
    """AdamW over the factors and, for classifiers, the head; all in float32."""

    learning_rate: float | Literal["auto"] = Field(default="auto", description="Of the factors; auto: by the start.")
    head_learning_rate: float | None = Field(
        default=None, gt=0.0, description="Of a classifier; the factors' by default."
    )
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0)
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.999, ge=0.0, lt=1.0)
    epsilon: float = Field(default=1e-8, gt=0.0)
    max_gradient_norm: float | None = Field(default=1.0, gt=0.0)

    @model_validator(mode="after")
    def _positive(self) -> "OptimizerSpec":
        if self.learning_rate != "auto" and not 0 < self.learning_rate < 1:
            raise ValueError("learning_rate must lie between 0 and 1")
        return self


class ScheduleSpec(Spec):
    """How long, and how the learning rate goes: up over the warm-up, then down to 0 (or constant)."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_share: float = Field(default=0.0, ge=0.0, lt=1.0, description="Of all steps.")
    epochs: int = Field(default=3, ge=1, le=1000)
    max_steps: int | None = Field(
        default=None, ge=0, description="Ends earlier than the epochs would; 0 measures and publishes the start itself."
    )


class BatchSpec(Spec):
    """What one step is computed from, and what it may cost."""

    size: int = Field(default=8, ge=1, le=65_536, description="Examples, or packed windows, of one pass.")
    accumulation: int = Field(default=1, ge=1, le=65_536, description="Passes of one step.")
    packing: bool = Field(
        default=True, description="Several examples in one window, none seeing another; not for classifiers."
    )
    chunk_tokens: int = Field(
        default=2048, ge=1, description="Tokens whose logits are in memory at once, forward and backward."
    )
    gradient_checkpointing: bool = Field(default=False, description="Compute blocks twice, keep less in between.")


class NoSlowing(Spec):
    """Every rank learns alike."""

    kind: Literal["none"] = "none"


class GradientSlowing(Spec):
    """Gradients of the preserved ranks are multiplied by gamma, as published.

    Under AdamW, which divides by the size of the gradients, this changes nothing that can be measured.
    """

    kind: Literal["gradient"] = "gradient"
    gamma: float = Field(default=0.1, ge=0.0, le=1.0)


class LearningRateSlowing(Spec):
    """The preserved ranks learn at gamma times the learning rate: what the paper's text says."""

    kind: Literal["learning-rate"] = "learning-rate"
    gamma: float = Field(default=0.1, ge=0.0, le=1.0)


class PerRankSlowing(Spec):
    """Each rank learns at 1 - λ of the rate, λ = (α + 1)·σ / (α·σ + σ_max): the strongest not at all.

    Source: the coefficients of the SRR authors' code, there on gradients; σ here is ‖L_i‖·‖R_i‖, which is the
    singular value where the factors are those of a truncated SVD.
    """

    kind: Literal["per-rank"] = "per-rank"
    alpha: float = Field(default=5.0, ge=0.0, le=1000.0)


SlowingSpec = Annotated[NoSlowing | GradientSlowing | LearningRateSlowing | PerRankSlowing, Field(discriminator="kind")]


class CheckpointSpec(Spec):
    """When the run is evaluated and made durable, and when it ends early."""

    evaluate_every: int | Literal["epoch"] = Field(default="epoch", description="Steps, or once an epoch.")
    save_every: int | None = Field(default=None, ge=1, description="Steps between checkpoints beside evaluations.")
    keep: int = Field(default=2, ge=1, le=100, description="Latest checkpoints that are kept beside the best.")
    patience: int | None = Field(
        default=None, ge=1, description="End after this many evaluations without a better one; never by default."
    )
    publish: bool = Field(
        default=False,
        description="Kept checkpoints of the published training travel with the result, the factors of each in a "
        "folder of its own, so that any of them can be published or gone on from later. Where the result is no "
        "adapter, the base that they stand on travels too.",
    )

    @model_validator(mode="after")
    def _positive(self) -> "CheckpointSpec":
        if self.evaluate_every != "epoch" and self.evaluate_every < 1:
            raise ValueError("evaluate_every must be 'epoch' or at least 1")
        return self


class GridSpec(Spec):
    """Several runs instead of one; the learning rate whose mean over the seeds is best is published.

    Source: the aggregation of the QERA and SRR papers, with the standard deviations they leave out.
    """

    learning_rates: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(default=(), max_length=50)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(default=(), max_length=50)


class AdapterResult(Spec):
    """Q as it was, bit for bit, and the trained L·R beside it: an artifact like any other."""

    kind: Literal["adapter"] = "adapter"


class MergedResult(Spec):
    """One dense matrix per layer: dequantized Q + L·R, summed in float32 and rounded once."""

    kind: Literal["merged"] = "merged"
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"


class RecompressedResult(Spec):
    """The merged model compressed again; what the fine-tuning taught is in Q and in a new L·R."""

    kind: Literal["recompressed"] = "recompressed"
    recipe: Recipe

    @field_validator("recipe", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return _recipe(value)


ResultSpec = Annotated[AdapterResult | MergedResult | RecompressedResult, Field(discriminator="kind")]


class TuningSpec(Spec):
    """One fine-tuning as data; the same document is in the report, with every "auto" resolved."""

    schema_version: Literal[1] = 1
    start: StartSpec = RecipeStart(recipe=PRESETS["srr-iterative"])
    task: TaskSpec = TextTask()
    data: DataSpec = DataSpec()
    rank: int = Field(default=32, ge=1, le=MAX_RANK, description="Of a fresh adapter; a start with L·R has its own.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Before R, while training.")
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    batch: BatchSpec = BatchSpec()
    slowing: SlowingSpec = NoSlowing()
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Of the base and of activations; factors and optimizer are always float32."
    )
    checkpoints: CheckpointSpec = CheckpointSpec()
    grid: GridSpec = GridSpec()
    neutral: EvaluationSpec = Field(
        default=EvaluationSpec(num_sequences=32, sequence_length=512, batch_size=4),
        description="Windows of a neutral text, where one is given, on which the model's drift is measured.",
    )
    result: ResultSpec = AdapterResult()
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _fits_together(self) -> "TuningSpec":
        if self.data.too_long == "split" and not isinstance(self.task, TextTask):
            raise ValueError("data.too_long='split' is for task 'text': half an answer or a review is no example")
        if isinstance(self.task, GSM8KTask) and self.task.sampling.max_new_tokens >= self.data.window:
            raise ValueError("data.window must hold a question beside task.sampling.max_new_tokens")
        if isinstance(self.start, LoRAStart) and not isinstance(self.slowing, NoSlowing):
            raise ValueError("start 'lora' preserves no directions, so there is none to slow")
        return self

    @property
    def starts_fresh(self) -> bool:
        """Whether the adapter begins at zero, as far as the specification alone can tell."""
        return isinstance(self.start, LoRAStart) or (
            isinstance(self.start, RecipeStart) and self.start.recipe.rank == 0
        )

    def resolved(self, *, starts_fresh: bool | None = None) -> "TuningSpec":
        """Return the specification without any "auto".

        Args:
            starts_fresh: What the artifact that is the start says; by default what the specification says.
        """
        if self.optimizer.learning_rate != "auto":
            return self
        is_fresh = self.starts_fresh if starts_fresh is None else starts_fresh
        rate = FRESH_LEARNING_RATE if is_fresh else LOW_RANK_LEARNING_RATE
        if self.slowing.kind in {"learning-rate", "per-rank"}:
            rate *= SLOWED_FACTOR
        return self.model_copy(update={"optimizer": self.optimizer.model_copy(update={"learning_rate": rate})})

    def cells(self) -> tuple[tuple[float, int], ...]:
        """Return (learning rate, seed) of every run; one where there is no grid. Resolve the specification first.

        Raises:
            RecipeError: the learning rate is still "auto".
        """
        rate = self.optimizer.learning_rate
        if rate == "auto" and not self.grid.learning_rates:
            raise RecipeError("the learning rate is 'auto'; resolve the specification first")
        rates = self.grid.learning_rates or (float(rate),)
        seeds = self.grid.seeds or (self.seed,)
        return tuple((rate, seed) for rate in rates for seed in seeds)

    def stated(self) -> dict[str, Any]:
        """The fine-tuning as JSON, without what the first version did not have where it is at its default."""
        return self._stated(later={"checkpoints": set() if self.checkpoints.publish else {"publish"}})

    def digest(self) -> str:
        """A SHA-256 of everything the trained bits depend on; the form of the result is left out."""
        data = self._stated(later={"result": True, "neutral": True, "checkpoints": {"publish"}})
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def _stated(self, *, later: dict[str, Any]) -> dict[str, Any]:
        has_checkpoint = getattr(self.start, "checkpoint", None) is not None
        return self.model_dump(mode="json", exclude=later if has_checkpoint else {**later, "start": {"checkpoint"}})


def named_start(
    name: str, *, quantizer: QuantizerSpec | None = None, rank: int = 32, changes: dict[str, Any] | None = None
) -> LoRAStart | RecipeStart:
    """Return one of `STARTS` on any quantizer.

    Args:
        quantizer: In place of the recipe's own.
        rank: Of L·R; where the start begins at zero, `TuningSpec.rank` says it.
        changes: Dotted fields of the recipe, as `override` takes them.
    Raises:
        RecipeError: no start has this name, or the fields do not fit.
    """
    if name not in STARTS:
        raise RecipeError(f"unknown start {name!r}; choose one of {', '.join(STARTS)}, or an artifact of ours")
    if name == "lora":
        if quantizer is not None or changes:
            raise RecipeError("start 'lora' is the 16-bit model itself: it has no quantizer and no recipe")
        return LoRAStart()
    recipe = PRESETS[name]
    wanted: dict[str, Any] = {"rank": rank} if recipe.rank else {}
    if quantizer is not None:
        wanted["quantizer"] = quantizer.model_dump(mode="json")
    return RecipeStart(recipe=override(recipe, {**wanted, **(changes or {})}))
