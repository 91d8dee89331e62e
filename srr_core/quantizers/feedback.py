"""Rounding with error feedback: each step rounds what the steps before it have made of its target.

The loop shared by GPTQ, one input at a time on a scalar grid, and LDLQ, eight at a time on a lattice. Inputs are
visited from the last to the first. Products with the errors of finished panels are one matrix product per panel;
inside a panel a step costs one product with at most `PANEL` rows, so all output rows move together.

Source: Frantar et al., GPTQ, arXiv:2210.17323, section 3; Chee et al., QuIP, arXiv:2307.13304, algorithm 3.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float32
from torch import Tensor

PANEL = 128
"""Inputs per panel, the reference's block size; the errors of 4096 rows then fit the second-level cache."""


def round_with_feedback(
    weight: Float32[Tensor, "in out"],
    lower: Float32[Tensor, "in in"],
    round_step: Callable[[int, Float32[Tensor, "step out"]], Float32[Tensor, "step out"]],
    *,
    step: int = 1,
    panel: int = PANEL,
    enter_panel: Callable[[int, Float32[Tensor, "panel out"]], None] | None = None,
) -> Float32[Tensor, "in out"]:
    """Round every input of a weight; return the weight minus the values chosen, one row per input.

    Args:
        weight: One row per input, in the order in which `lower` knows them. Not modified.
        lower: Unit block lower triangular, blocks of `step`.
        round_step: Given the first input of a step and its targets, returns the values chosen for them.
        step: Inputs rounded together; divides `panel` and the number of inputs.
        panel: Inputs per panel. Panels end at the last input; the first may be short.
        enter_panel: Told the first input of a panel, and its weights as they are best changed for the errors
            made so far, before the first of them is rounded.
    """
    errors = torch.empty_like(weight)
    for start, stop in backwards(weight.shape[0], panel):
        targets = torch.addmm(weight[start:stop], lower[stop:, start:stop].mT, errors[stop:])
        if enter_panel is not None:
            enter_panel(start, _compensated(weight[start:stop], targets, lower[start:stop, start:stop]))
        # Rows, not columns, are read in every step: twice as fast.
        coupling = lower[start:stop, start:stop].mT.contiguous()
        for first in range(stop - step, start - 1, -step):
            after, offset = first + step, first - start
            done = coupling[offset : offset + step, offset + step :]
            target = torch.addmm(targets[offset : offset + step], done, errors[after:stop])
            torch.sub(weight[first:after], round_step(first, target), out=errors[first:after])
    return errors


def backwards(count: int, panel: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the panels, the last first; the first may be short."""
    for stop in range(count, 0, -panel):
        yield max(0, stop - panel), stop


def _compensated(
    weight: Float32[Tensor, "panel out"], targets: Float32[Tensor, "panel out"], lower: Float32[Tensor, "panel panel"]
) -> Float32[Tensor, "panel out"]:
    """Return where all inputs of a panel would move if none of them were rounded."""
    moved: Tensor = torch.linalg.solve_triangular(lower.mT, targets - weight, upper=True, unitriangular=True)
    return weight + moved
