"""A whole method as data: what is scaled, preserved, quantized, reconstructed and measured."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from srr_core.recipe.base import Spec
from srr_core.recipe.budget import MAX_RANK, BudgetSpec, Setting
from srr_core.recipe.calibration import CalibrationSpec, EvaluationSpec
from srr_core.recipe.complaints import complaint
from srr_core.recipe.quantizer_base import FLOAT16_BITS
from srr_core.recipe.quantizers import MXIntSpec, QuantizerSpec
from srr_core.recipe.rank_selectors import RankSelectorSpec, SpectralSpec
from srr_core.recipe.repair import RepairSpec
from srr_core.recipe.scalings import AutocorrelationSpec, ScalingSpec

Target = Literal["any", "transformers", "vllm", "sglang", "llama.cpp", "gptq", "srr"]
Baseline = Literal["weight-only", "gptq"]
"""Recipes that a result may be compared with: of rank 0, and without learning, so that a run has what they need."""
_WORDS = frozenset({"name", "title", "reference", "target", "baselines"})
_LATER_FIELDS = ("target", "budget", "repair", "baselines", "min_share", "calibration.inputs", "evaluation.evaluators")
STEEP_POWER_ITERATIONS = 3
"""Under the exact scaling. On the 42 layers of a trained model k* is then that of a dense SVD and the output error
within 0.1 %; with two iterations k* is one less on 1 to 3 layers, and the error 0.3 % higher."""
FLAT_POWER_ITERATIONS = 8
"""Under the other scalings: two lose 1.4 % of the error of a correction, eight 0.1, and two miss k* by far."""


class SketchSpec(Spec):
    """The randomized subspace iteration behind every truncated SVD.

    Source: Halko, Martinsson, Tropp (2011), arXiv:0909.4061; the width 2r is that of the SRR authors' code, which
    takes 4 iterations.
    """

    oversampling: float = Field(
        default=2.0, ge=1.0, le=8.0, description="Columns of the sketch as a multiple of the rank."
    )
    power_iterations: int | None = Field(
        default=None,
        ge=1,
        le=32,
        description=f"None: {STEEP_POWER_ITERATIONS} under the exact scaling, {FLAT_POWER_ITERATIONS} under others.",
    )


class Recipe(Spec):
    """One method of the family W ≈ Q + L·R. The methods of the literature are rows of `PRESETS`."""

    name: str = Field(default="custom", min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str = Field(default="", max_length=200)
    reference: str = Field(default="", max_length=400)
    target: Target = Field(
        default="any",
        description="What will run the result. Bits, group, symmetry and rank that the recipe leaves open are chosen "
        "so that it takes it; what it cannot take is refused before the work. any: nothing is asked for.",
    )
    quantizer: QuantizerSpec = MXIntSpec()
    scaling: ScalingSpec = AutocorrelationSpec()
    rank: int = Field(default=32, ge=0, le=MAX_RANK, description="Rank budget r of L·R; 0 writes no adapter.")
    rank_selector: RankSelectorSpec = SpectralSpec()
    reconstruct: Literal["joint", "concat", "preserve"] = Field(
        default="joint",
        description="joint: refit all r ranks to W - Q. concat: keep the preserved k, fit r - k. "
        "preserve: keep the factors that were taken out, as LQ-LoRA's last step does.",
    )
    iterations: int = Field(default=1, ge=1, le=100)
    keep_best: bool = Field(
        default=True, description="Keep the iterate with the smallest weighted error, not the last."
    )
    budget: BudgetSpec | None = Field(
        default=None, description="Every layer gets bits and groups of its own within a size; none: all the same."
    )
    repair: RepairSpec | None = Field(
        default=None, description="L·R and scales learn at the end, the model as a whole; none: they do not."
    )
    baselines: tuple[Baseline, ...] = Field(
        default=(),
        description="Recipes that are quantized and measured beside this one, at the bits nearest to its own, and not "
        "written. They share its statistics and change nothing of the result.",
    )
    sketch: SketchSpec = SketchSpec()
    calibration: CalibrationSpec = CalibrationSpec()
    evaluation: EvaluationSpec | None = EvaluationSpec()
    min_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="A model is refused when a smaller part of its blocks would be compressed; 0 takes any.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _needs_a_rank_to_preserve(self) -> "Recipe":
        if self.reconstruct == "concat" and self.iterations > 1:
            raise ValueError("iterations above 1 need reconstruct='joint' or 'preserve': concat fits only once")
        return self

    @model_validator(mode="after")
    def _budget_has_settings_of_its_grid(self) -> "Recipe":
        if self.budget is not None:
            for setting in self.budget.settings:
                self.quantizer_of(setting)
        return self

    @field_validator("baselines")
    @classmethod
    def _each_baseline_once(cls, baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if len(set(baselines)) < len(baselines):
            raise ValueError("each baseline is named once at most")
        return baselines

    def quantizer_of(self, setting: Setting) -> QuantizerSpec:
        """Return the quantizer with the bits and the group of one setting.

        Raises:
            ValueError: the quantizer's codes lie on no uniform grid, or its grid has no such bits or group.
        """
        quantizer = self.quantizer
        options = quantizer.grid_options
        if quantizer.uniform_grid is None or options.group_field is None:
            raise ValueError(f"a budget needs a quantizer on a uniform grid, not {quantizer.kind}")
        values = {**options.model_dump(), "num_bits": setting.num_bits, options.group_field: setting.group_size}
        try:
            chosen = type(options).model_validate(values)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            raise ValueError(
                f"the {options.kind} grid cannot have {setting.num_bits} bits in groups of "  # type: ignore[attr-defined]  # every grid has a kind
                f"{setting.group_size}: {wrong['loc'][-1]} {complaint(wrong)}"
            ) from error
        if not quantizer.grid_path:
            return chosen  # type: ignore[return-value]  # a grid that is its own quantizer
        return quantizer.model_copy(update={quantizer.grid_path[0]: chosen})

    def bits_per_weight(self, out_features: int, in_features: int) -> float:
        """Bits per weight of one layer, L and R in 16 bits counted."""
        rank = min(self.rank, out_features, in_features)
        low_rank = FLOAT16_BITS * rank * (out_features + in_features) / (out_features * in_features)
        return self.quantizer.bits_per_weight + low_rank

    @property
    def quantization_bits(self) -> int:
        """Bits of one code of the quantized part."""
        return self.quantizer.num_bits

    @property
    def power_iterations(self) -> int:
        """Rounds of subspace iteration: what the sketch says, or what the spectra under the scaling need."""
        if self.sketch.power_iterations is not None:
            return self.sketch.power_iterations
        return STEEP_POWER_ITERATIONS if isinstance(self.scaling, AutocorrelationSpec) else FLAT_POWER_ITERATIONS

    def stated(self) -> dict[str, Any]:
        """The recipe as JSON, without the fields that the first version did not have where they are at their defaults.

        So what was digested then has the same digest now.
        """
        data = self.model_dump(mode="json")
        for path in _LATER_FIELDS:
            *parents, name = path.split(".")
            place, default = data, _DEFAULTS
            for parent in parents:
                place, default = place[parent] or {}, default[parent]
            if name in place and place[name] == default[name]:
                del place[name]
        return data

    def digest(self) -> str:
        """A SHA-256 of what the recipe does to a model: without the words, the target and what it is compared with."""
        data = {name: value for name, value in self.stated().items() if name not in _WORDS}
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_DEFAULTS: dict[str, Any] = Recipe().model_dump(mode="json")
