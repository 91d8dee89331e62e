"""GPTQ: round one input at a time and let the inputs still to come make up for its error.

Inputs that never moved in calibration get weight 0, as in the reference. With `act_order` inputs are visited by
descending energy and every grid is fitted to the original group beforehand, so the stored layout stays that of
plain groups. Without it, a grid is fitted when its group is reached, to the weights as feedback has changed them,
unless an exponent window ties the grids of a row together.

Source: Frantar et al., GPTQ, arXiv:2210.17323; the options are those of its published code. Deviation: the
factor is found without inverting the Hessian (see `linalg.block_ldl`).
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Float64, Int
from torch import Tensor
from typing_extensions import override

from srr_core.linalg.block_ldl import damped_block_ldl
from srr_core.quantizers.base import Quantizer
from srr_core.quantizers.feedback import PANEL, round_with_feedback
from srr_core.quantizers.grid import Grid, GroupParameters, integer_tensor, round_to_nearest
from srr_core.quantizers.integer import IntegerGrid
from srr_core.quantizers.mxint import MXIntGrid
from srr_core.recipe import GPTQSpec, IntegerSpec, MXIntSpec
from srr_core.registry import Registry
from srr_core.types import IntegerTensor, Statistics

GRIDS: Registry[Grid] = Registry("grid", {MXIntSpec: MXIntGrid, IntegerSpec: IntegerGrid})
"""The grids errors can be fed back on, by the specification of the inner grid."""


@dataclass(frozen=True)
class _Plan:
    """What depends on the statistics alone, and so serves every weight that reads the same inputs."""

    order: Int[Tensor, " in"]
    """The input at each position; positions are visited from the last to the first."""
    lower: Float32[Tensor, "in in"] | None
    """How errors are passed on, between positions; None where no damping was enough, and plain rounding is left."""
    dead: Bool[Tensor, " in"]
    notes: tuple[str, ...]


class GPTQQuantizer(Quantizer[GPTQSpec]):
    """Rounds to a uniform grid with error feedback.

    Costs in³/3 in float64 once per statistics, then out·in² in float32 per weight. The factor of the latest
    statistics is kept while they live, for the passes of SRR and for layers that share their inputs.
    """

    needs_statistics = True

    def __init__(self, spec: GPTQSpec) -> None:
        super().__init__(spec)
        self.grid = GRIDS.build(spec.grid)
        self._fit_beforehand = spec.act_order or spec.uniform_grid.exponent_window is not None
        self._latest: tuple[weakref.ref[Tensor], _Plan] | None = None

    @override
    def _quantize(
        self, weight: Float32[Tensor, "out in"], statistics: Statistics | None, *, seed: int
    ) -> IntegerTensor:
        assert statistics is not None  # noqa: S101  # the base has checked it, which mypy cannot see
        plan = self._plan_for(statistics.autocorrelation, weight.device)
        if plan.lower is None:
            return round_to_nearest(weight, self.grid, self.spec, notes=plan.notes)
        rounding = _Rounding(weight.masked_fill(plan.dead, 0.0), plan.order, self.grid)
        if self._fit_beforehand:
            rounding.fit_all()
            rounding.run(plan.lower, panel=PANEL, enter_panel=None)
        else:
            rounding.run(plan.lower, panel=self.grid.group_size, enter_panel=rounding.fit_group)
        return integer_tensor(
            rounding.codes.T.contiguous(), rounding.parameters(), self.grid, self.spec, notes=plan.notes
        )

    def _plan_for(self, autocorrelation: Float64[Tensor, "in in"], device: torch.device) -> _Plan:
        latest = self._latest
        if latest is not None and latest[0]() is autocorrelation and latest[1].order.device == device:
            return latest[1]
        plan = _plan(autocorrelation.to(device), act_order=self.spec.act_order, damping=self.spec.damping)
        self._latest = (weakref.ref(autocorrelation, self._forget), plan)
        return plan

    def _forget(self, reference: weakref.ref[Tensor]) -> None:
        if self._latest is not None and self._latest[0] is reference:
            self._latest = None


def _plan(autocorrelation: Float64[Tensor, "in in"], *, act_order: bool, damping: float) -> _Plan:
    energy = autocorrelation.diagonal()
    dead = energy == 0
    order = torch.argsort(energy, stable=True) if act_order else torch.arange(len(energy) - 1, -1, -1).to(energy.device)
    if bool(dead.all()):
        return _Plan(order, None, dead, ("no input moved in calibration; rounded to nearest instead of GPTQ",))
    gram = autocorrelation[order][:, order]
    # A dead input is tied to no other, so any energy leaves the rest alone; the mean keeps the damping as it is.
    gram.diagonal()[dead[order]] = energy[~dead].mean()
    factor = damped_block_ldl(gram, block=1, damping=damping)
    if factor is None:
        return _Plan(
            order, None, dead, ("the statistic has no factor at damping 1; rounded to nearest instead of GPTQ",)
        )
    return _Plan(order, factor.lower, dead, _plan_notes(dead, factor.damping, damping))


def _plan_notes(dead: Bool[Tensor, " in"], applied: float, wanted: float) -> tuple[str, ...]:
    notes = []
    if bool(dead.any()):
        notes.append(f"{int(dead.sum())} of {len(dead)} inputs never moved in calibration; GPTQ set their weights to 0")
    if applied != wanted:
        notes.append(f"GPTQ damping was raised from {wanted:g} to {applied:g}")
    return tuple(notes)


class _Rounding:
    """One weight on its way to codes, one row per input so that a step is contiguous."""

    def __init__(self, weight: Float32[Tensor, "out in"], order: Int[Tensor, " in"], grid: Grid) -> None:
        out_features, in_features = weight.shape
        self.grid = grid
        self.codes = torch.empty((in_features, out_features), dtype=grid.code_dtype, device=weight.device)
        self._weight = weight
        self._order = order
        self._inputs = order.tolist()
        self._scale = weight.new_empty(-(-in_features // grid.group_size), out_features)
        self._zero_point = None if grid.is_symmetric else torch.empty_like(self._scale)

    def parameters(self) -> GroupParameters:
        zero_point = None if self._zero_point is None else self._zero_point.T.contiguous()
        return GroupParameters(self._scale.T.contiguous(), zero_point)

    def run(
        self,
        lower: Float32[Tensor, "in in"],
        *,
        panel: int,
        enter_panel: Callable[[int, Float32[Tensor, "panel out"]], None] | None,
    ) -> None:
        # Rows of a contiguous matrix: picking columns of the weight would take as long as the rounding.
        by_position = self._weight.T.contiguous()[self._order]
        round_with_feedback(by_position, lower, self._round_input, panel=panel, enter_panel=enter_panel)

    def fit_all(self) -> None:
        """Fit every group to the weights as they are."""
        self._keep(slice(None), self.grid.fit(self.grid.split(self._weight)))

    def fit_group(self, first: int, weights: Float32[Tensor, "panel out"]) -> None:
        """Fit the group of one panel. Positions run against the inputs, so the panel is turned around."""
        group = self._inputs[first] // self.grid.group_size
        self._keep(slice(group, group + 1), self.grid.fit(self.grid.split(weights.flip(0).T)))

    def _keep(self, groups: slice, parameters: GroupParameters) -> None:
        self._scale[groups] = parameters.scale.T
        if self._zero_point is not None and parameters.zero_point is not None:
            self._zero_point[groups] = parameters.zero_point.T

    def _round_input(self, position: int, target: Float32[Tensor, "1 out"]) -> Float32[Tensor, "1 out"]:
        index = self._inputs[position]
        group = index // self.grid.group_size
        scale = self._scale[group]
        zero_point = None if self._zero_point is None else self._zero_point[group]
        codes = self.grid.round(target, scale, zero_point)
        self.codes[index] = codes[0]
        return (codes if zero_point is None else codes.sub_(zero_point)).mul_(scale)
