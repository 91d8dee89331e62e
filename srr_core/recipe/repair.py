"""What is learned on a packed model as a whole, after everything else: L·R and the scales, against the source."""

from typing import Literal

from pydantic import Field, field_validator

from srr_core.recipe.base import Spec

Part = Literal["low_rank", "scales"]


class RepairSpec(Spec):
    """L·R and the scales of groups, learned so that the model predicts what its source predicts; codes stay.

    The loss is KL(source ‖ compressed) of the next token's distribution on the calibration text, from end to end. A
    slice of this text is held out and nothing is learned from it: the state that does best there is the one that is
    kept, and the model as it was is one of the candidates. A model without a head that predicts tokens learns the last
    hidden states of its source instead.

    Scales learn as one factor per group and are stored in the dtype of the format, so only the grids of integers with
    scales of their own take part; those of MXINT are powers of two, those of lattices and NormalFloat stay too.

    Source: measured on the demo model, BENCHMARKS.md; Hinton et al., arXiv:1503.02531 (the loss).
    """

    parts: tuple[Part, ...] = Field(default=("low_rank", "scales"), min_length=1, description="What learns.")
    num_sequences: int | None = Field(
        default=None,
        ge=2,
        le=100_000,
        description="Windows of the calibration text, of its length, held-out ones among them; none: those of the "
        "calibration.",
    )
    held_out: float = Field(
        default=0.125, gt=0.0, le=0.5, description="Part of the windows, evenly spread, that only judge."
    )
    epochs: int = Field(default=2, ge=1, le=100, description="How often every other window is learned from.")
    batch_size: int = Field(default=4, ge=1, le=1024, description="Windows a step.")
    learning_rate: float = Field(
        default=2e-2, ge=0.0, le=1.0, description="Of L and R, as a share of their size; falls to nothing."
    )
    scale_learning_rate: float = Field(
        default=3e-3, ge=0.0, le=1.0, description="Of the factors on scales, which begin at 1; falls to nothing."
    )
    warm_up_steps: int = Field(default=20, ge=0, le=100_000, description="Steps until the rates are full.")
    evaluation_steps: int = Field(
        default=16, ge=1, le=100_000, description="Steps between two looks at the held-out windows, and checkpoints."
    )
    patience: int = Field(default=4, ge=1, le=1000, description="Looks without a better one after which learning ends.")

    @field_validator("parts")
    @classmethod
    def _each_once(cls, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        if len(set(parts)) < len(parts):
            raise ValueError("each part is named once at most")
        return parts
