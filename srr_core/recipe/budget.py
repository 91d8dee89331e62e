"""How many bits there are to spend, and among which settings of layers they are spent."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from srr_core.recipe.base import Spec
from srr_core.recipe.byte_sizes import size_words

MAX_CHOICES = 8
MAX_RANK = 1024
TARGETS = ("target_bits", "target_size_bytes", "target_kl")
"""Of which a budget has one."""


class Setting(NamedTuple):
    """What one layer is written as."""

    num_bits: int
    group_size: int


class BudgetSpec(Spec):
    """A size or a loss, and the settings among which every layer finds its own, so that the output suffers least.

    What suffers is estimated once for every layer and setting: the error of the layer's output, each output weighted by
    how much the model's prediction depends on it, which one backward pass over a little text tells. Layers that
    loaders fuse share a setting. L·R has one rank everywhere, as an adapter of one rank is what every server takes.

    Source of the weights: the diagonal of the Fisher information of the outputs, with labels drawn from the model.
    """

    target_bits: float | None = Field(
        default=None, gt=0.0, le=32.0, description="Stored bits per compressed weight, scales and L·R counted."
    )
    target_size_bytes: int | None = Field(
        default=None, ge=1, lt=2**63, description="All weight files together; takes the place of the bits."
    )
    target_kl: float | None = Field(
        default=None,
        gt=0.0,
        le=10.0,
        description="Divergence of the next token's distribution from the source's, in nats, that may be lost; takes "
        "the place of both. Measured on the calibration text, before anything learns.",
    )
    num_bits: tuple[Annotated[int, Field(ge=2, le=8)], ...] = Field(
        default=(2, 3, 4), min_length=1, max_length=MAX_CHOICES, description="Bits of one code to choose from."
    )
    group_sizes: tuple[Annotated[int, Field(ge=16, le=128)], ...] = Field(
        default=(32, 64, 128), min_length=1, max_length=MAX_CHOICES, description="Groups to choose from."
    )
    ranks: tuple[Annotated[int, Field(ge=0, le=MAX_RANK)], ...] = Field(
        default=(0,),
        min_length=1,
        max_length=MAX_CHOICES,
        description="Ranks of L·R to choose one from, for all layers.",
    )
    num_sequences: int = Field(default=16, ge=1, le=100_000, description="Windows of the backward pass.")
    sequence_length: int = Field(default=256, ge=8, le=131_072, description="Tokens of one of them.")
    share: Literal["fused", "none"] = Field(
        default="fused", description="fused: layers that loaders fuse have one setting; none: each its own."
    )

    @model_validator(mode="after")
    def _one_target(self) -> "BudgetSpec":
        if sum(getattr(self, name) is not None for name in TARGETS) != 1:
            raise ValueError(f"a budget needs one of {', '.join(TARGETS[:-1])} and {TARGETS[-1]}")
        for name, values in (("num_bits", self.num_bits), ("group_sizes", self.group_sizes), ("ranks", self.ranks)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} lists a number twice: {values}")
        if len(self.num_bits) * len(self.group_sizes) * len(self.ranks) == 1:
            raise ValueError(
                "a budget with one setting has nothing to choose from; give several num_bits, group_sizes or ranks, or "
                "no budget"
            )
        return self

    def bits(self, *, weights: int, kept_bytes: int) -> float | None:
        """Return what there is for all compressed weights together; None where a divergence is the target.

        Args:
            weights: That are compressed.
            kept_bytes: Of all other tensors; what they take of a size is not there for the compressed ones.
        """
        if self.target_bits is not None:
            return self.target_bits * weights
        if self.target_size_bytes is not None:
            return 8.0 * max(self.target_size_bytes - kept_bytes, 0)
        return None

    @property
    def words(self) -> str:
        """The target in words."""
        if self.target_size_bytes is not None:
            return f"{size_words(self.target_size_bytes)} of weight files"
        if self.target_bits is not None:
            return f"{self.target_bits:g} bits per weight"
        return f"a divergence of {self.target_kl:g} nats"

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting a layer may have, the rank left out."""
        return tuple(Setting(bits, group) for bits in self.num_bits for group in self.group_sizes)
