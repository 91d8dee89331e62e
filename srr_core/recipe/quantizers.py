"""Which grid the quantized part lives on, and how weights are rounded to it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from srr_core.recipe.quantizer_base import AffineSpec, QuantizerBase
from srr_core.recipe.uniform_grid import UniformGrid

SHARED_EXPONENT_BITS = 8


class MXIntSpec(QuantizerBase):
    """Signed integers sharing one power-of-two scale per block along the input dimension.

    Source: OCP Microscaling (2023); QERA, arXiv:2410.06040, section 4.
    """

    group_field: ClassVar[str | None] = "block_size"

    kind: Literal["mxint"] = "mxint"
    num_bits: int = Field(default=3, ge=2, le=8)
    block_size: Literal[16, 32] = 32
    exponent: Literal["max", "search"] = Field(
        default="max",
        description="max: floor(log2(max|x|)). search: also try one less, keep the smaller squared error.",
    )
    exponent_window: int | None = Field(
        default=None,
        ge=0,
        le=15,
        description="Clamp each block's exponent to at least the largest of its 256 inputs minus this; "
        "3 makes 2 bits, 5 makes 3 and 7 makes 4 to 6 exact in GGUF Q2_K, Q3_K and Q6_K.",
    )

    @property
    def uniform_grid(self) -> UniformGrid:
        """Symmetric, with powers of two as scales; the smallest code is never used."""
        return UniformGrid(
            self.num_bits,
            self.block_size,
            is_symmetric=True,
            scale_dtype="bfloat16",
            is_power_of_two=True,
            exponent_window=self.exponent_window,
            num_levels=2**self.num_bits - 1,
        )

    @property
    def bits_per_weight(self) -> float:
        """Bits of the format itself, the shared exponent counted."""
        return self.num_bits + SHARED_EXPONENT_BITS / self.block_size


class IntegerSpec(AffineSpec):
    """Affine integers with one fp16 scale (and zero point) per group along the input dimension.

    Source: Frantar et al., GPTQ, arXiv:2210.17323 (its grid).
    """

    group_field: ClassVar[str | None] = "group_size"

    kind: Literal["integer"] = "integer"
    num_bits: int = Field(default=4, ge=2, le=8)
    group_size: Literal[16, 32, 64, 128] = 128
    symmetric: bool = False
    search: Literal["none", "mse"] = Field(
        default="none", description="mse: shrink each group's range while the 2.4-norm of its error falls."
    )

    @property
    def uniform_grid(self) -> UniformGrid:
        """With a float16 scale, and a zero point unless symmetric."""
        return UniformGrid(self.num_bits, self.group_size, is_symmetric=self.symmetric, scale_dtype="float16")

    @property
    def searches(self) -> bool:
        """When asked for."""
        return self.search == "mse"


class NormalFloatSpec(QuantizerBase):
    """Levels at Gaussian quantiles, scaled by the largest magnitude of each block.

    Source: Dettmers et al., QLoRA, arXiv:2305.14314, section 3.
    """

    group_field: ClassVar[str | None] = "block_size"

    kind: Literal["normal-float"] = "normal-float"
    num_bits: Literal[2, 3, 4] = 4
    block_size: Literal[32, 64, 128] = 64
    double_quantization: bool = True

    @property
    def uniform_grid(self) -> None:
        """None: the levels are not evenly spaced."""
        return

    @property
    def bits_per_weight(self) -> float:
        """Bits of the format itself; double quantization stores 8-bit scales, 256 to a pair of 16 bits."""
        scale_bits = 8 + 32 / 256 if self.double_quantization else 32
        return self.num_bits + scale_bits / self.block_size


class GPTQSpec(QuantizerBase):
    """Error feedback through the activation statistic while rounding to an inner grid.

    Source: Frantar et al., GPTQ, arXiv:2210.17323.
    """

    has_feedback: ClassVar[bool] = True

    kind: Literal["gptq"] = "gptq"
    grid: Annotated[MXIntSpec | IntegerSpec, Field(discriminator="kind")] = IntegerSpec(num_bits=3)
    act_order: bool = Field(
        default=True, description="Visit inputs by descending energy; grids stay those of the original groups."
    )
    damping: float = Field(default=0.01, gt=0.0, le=1.0, description="Added to the diagonal, relative to its mean.")

    @property
    def num_bits(self) -> int:
        """Bits of one code."""
        return self.grid.num_bits

    @property
    def uniform_grid(self) -> UniformGrid:
        """That of the inner grid."""
        return self.grid.uniform_grid

    @property
    def grid_path(self) -> tuple[str, ...]:
        """The inner grid has the options."""
        return ("grid",)

    @property
    def grid_options(self) -> QuantizerBase:
        """The inner grid."""
        return self.grid

    @property
    def bits_per_weight(self) -> float:
        """Bits of the inner grid; the rounding order costs nothing."""
        return self.grid.bits_per_weight


class LearnedSpec(QuantizerBase):
    """Rounding, ranges and L·R learned together, block by block, against the output of the source's block.

    Every weight gets an offset in [-1/2, 1/2] added before it is rounded, every group two factors in [0, 1] on its
    range; both follow the sign of their gradient, with a step that falls from 1/iterations to nothing. L and R follow
    Adam. What is learned replaces the start only where it lowers the loss of the block over all calibration windows.

    Source: Cheng et al., SignRound, arXiv:2309.05516. Deviation: L·R learns beside the rounding.
    """

    kind: Literal["learned"] = "learned"
    grid: Annotated[MXIntSpec | IntegerSpec, Field(discriminator="kind")] = IntegerSpec(num_bits=2, group_size=64)
    iterations: int = Field(default=200, ge=0, le=10_000, description="Steps per block; 0 keeps the start.")
    batch_size: int = Field(
        default=8, ge=1, le=1024, description="Windows a step, run `calibration.batch_size` at once."
    )
    factor_learning_rate: float = Field(
        default=1e-2, ge=0.0, le=1.0, description="Of L and R, as a share of their size; falls to nothing."
    )
    patience: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Steps after which a loss that has not fallen makes the next as many the last.",
    )
    arithmetic: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Of the block while it learns; auto: bfloat16 where the device multiplies it faster.",
    )

    @property
    def num_bits(self) -> int:
        """Bits of one code."""
        return self.grid.num_bits

    @property
    def uniform_grid(self) -> UniformGrid:
        """That of the inner grid."""
        return self.grid.uniform_grid

    @property
    def grid_path(self) -> tuple[str, ...]:
        """The inner grid has the options."""
        return ("grid",)

    @property
    def grid_options(self) -> QuantizerBase:
        """The inner grid."""
        return self.grid

    @property
    def bits_per_weight(self) -> float:
        """Bits of the grid; what was learned is in the codes and scales."""
        return self.grid.bits_per_weight


class QuIPSharpSpec(QuantizerBase):
    """Incoherence by Hadamard transforms, then block LDLQ on the E8P lattice codebook.

    Source: Tseng et al., QuIP#, arXiv:2402.04396.
    """

    has_feedback: ClassVar[bool] = True

    kind: Literal["quip-sharp"] = "quip-sharp"
    num_bits: Literal[2, 3, 4] = 2
    damping: float = Field(default=0.01, gt=0.0, le=1.0)
    coordinate_passes: int = Field(default=10, ge=0, le=50)

    @property
    def uniform_grid(self) -> None:
        """None: the codes are points of a lattice."""
        return

    @property
    def bits_per_weight(self) -> float:
        """Bits of the codes; the sign vectors and the one scale are negligible and counted per layer."""
        return float(self.num_bits)


QuantizerSpec = Annotated[
    MXIntSpec | IntegerSpec | NormalFloatSpec | GPTQSpec | LearnedSpec | QuIPSharpSpec, Field(discriminator="kind")
]
