"""Preserved directions held back: by their gradients, which AdamW undoes, or by their learning rates.

Rank i of a layer is row i of its R and column i of its L; the first k are the preserved ones. Their steps are shortened
after the optimizer has made them, which is what a learning rate of their own would do, weight decay included, and
leaves the parameters whole as PEFT saves them.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from srr_core.checkpoint.index import read_json
from srr_core.errors import CheckpointError, RecipeError
from srr_core.recipe.tuning import GradientSlowing, LearningRateSlowing, NoSlowing, PerRankSlowing, SlowingSpec
from srr_core.report import Report, read_report
from srr_core.tuners.folders import from_block

_FACTOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
COMPRESSION_REPORT = "report.json"


def preserved_ranks(artifact: Path) -> dict[str, int]:
    """Return k of every layer, by the path from its block list on, as the report of a compression says.

    Raises:
        RecipeError: the artifact has no report.
        CheckpointError: it is damaged.
    """
    return {from_block(layer.name): layer.preserved_rank for layer in compression_report(artifact).layers}


def compression_report(artifact: Path) -> Report:
    """Return the report of the compression an artifact comes from.

    Raises:
        RecipeError: the artifact has none.
        CheckpointError: it is damaged.
    """
    file = artifact / COMPRESSION_REPORT
    if not file.exists():
        raise RecipeError(
            f"{artifact.name!r} has no {COMPRESSION_REPORT}, so which ranks are preserved directions is unknown"
        )
    try:
        return read_report(read_json(file))
    except ValueError as error:
        raise CheckpointError(f"{file.name} is not the report of a compression") from error


def coefficients(
    parameters: Mapping[str, nn.Parameter], spec: SlowingSpec, preserved: Mapping[str, int]
) -> dict[str, Float[Tensor, " rank"]]:
    """Return, by name, how fast each rank of a factor learns: 1 as the others, 0 not at all. Empty without slowing.

    Args:
        parameters: What is trained, by the names of PEFT's files.
        preserved: k by layer, from `preserved_ranks`.
    Raises:
        RecipeError: nothing is preserved, or the ranks are those of several experts.
    """
    if isinstance(spec, NoSlowing):
        return {}
    factors = {name: match for name in parameters if (match := _FACTOR.match(name))}
    if any(".experts" in name for name in factors):
        raise RecipeError("experts of a mixture share the tensors of their factors; use slowing 'none'")
    if isinstance(spec, PerRankSlowing):
        return {name: _per_rank(parameters, match["module"], spec.alpha) for name, match in factors.items()}
    ranks = {name: preserved.get(from_block(match["module"]), 0) for name, match in factors.items()}
    if not any(ranks.values()):
        raise RecipeError("the start preserves no directions (k is 0 in every layer), so there is nothing to slow")
    result = {}
    for name, match in factors.items():
        parameter = parameters[name]
        speed = torch.ones(parameter.shape[_axis(match["side"])], device=parameter.device)
        speed[: ranks[name]] = spec.gamma
        result[name] = speed
    return result


def slow_down(
    optimizer: Optimizer,
    parameters: Mapping[str, nn.Parameter],
    spec: SlowingSpec,
    speeds: Mapping[str, Float[Tensor, " rank"]],
) -> None:
    """Have gradients, or the steps of an optimizer, multiplied by the speed of their rank from now on."""
    sides = {name: _axis(match["side"]) for name in speeds if (match := _FACTOR.match(name))}
    if isinstance(spec, GradientSlowing):
        for name, speed in speeds.items():
            factor = speed[:, None] if sides[name] == 0 else speed
            parameters[name].register_hook(functools.partial(torch.mul, factor))  # type: ignore[no-untyped-call]  # torch's
    elif isinstance(spec, LearningRateSlowing | PerRankSlowing):
        shortened = [_Shortened(parameters[name], sides[name], speed) for name, speed in speeds.items()]

        def before_step(*_: Any) -> None:
            for factor in shortened:
                factor.remember()

        def after_step(*_: Any) -> None:
            for factor in shortened:
                factor.shorten()

        optimizer.register_step_pre_hook(before_step)
        optimizer.register_step_post_hook(after_step)


class _Shortened:
    """The slowed ranks of one factor around a step."""

    def __init__(self, parameter: nn.Parameter, axis: int, speed: Tensor) -> None:
        self._parameter = parameter
        self._axis = axis
        self._ranks = torch.nonzero(speed != 1).flatten()
        shape = (-1, 1) if axis == 0 else (1, -1)
        self._speed = speed[self._ranks].reshape(shape)
        self._before: Tensor | None = None

    @torch.no_grad()
    def remember(self) -> None:
        """Keep the ranks as they are before the step."""
        self._before = self._parameter.index_select(self._axis, self._ranks)

    @torch.no_grad()
    def shorten(self) -> None:
        """Take a part of the step only."""
        before = self._before
        assert before is not None  # noqa: S101  # the optimizer calls its hooks in this order
        after = self._parameter.index_select(self._axis, self._ranks)
        self._parameter.index_copy_(self._axis, self._ranks, before + self._speed * (after - before))
        self._before = None


def _per_rank(parameters: Mapping[str, nn.Parameter], module: str, alpha: float) -> Tensor:
    right = parameters[f"base_model.model.{module}.lora_A.weight"].detach()
    left = parameters[f"base_model.model.{module}.lora_B.weight"].detach()
    strength = right.norm(dim=1) * left.norm(dim=0)
    strongest = float(strength.max())
    if not strongest > 0:  # a fresh adapter: no direction is stronger than another
        return torch.ones_like(strength)
    share: Tensor = (alpha + 1) * strength / (alpha * strength + strongest)
    return (1 - share).clamp(0, 1)


def _axis(side: str) -> int:
    return 0 if side == "A" else 1
