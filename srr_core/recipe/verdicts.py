"""A verdict of the matrix: one runtime on one recipe, with how we know.

`run`: this project's tests do it. `trial`: it was run once, outside the tests, with the versions named.
`source`: read in the runtime's source and never run, so the verdict is at most "untested".
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from srr_core.recipe.uniform_grid import UniformGrid

Verdict = Literal["yes", "no", "untested"]
Evidence = Literal["run", "trial", "source"]
Shape = tuple[int, int]


class CompatibilityRow(BaseModel):
    """One runtime's verdict on a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: str
    verdict: Verdict
    reason: str
    evidence: Evidence
    versions: str = ""
    """Which version was run or read, and when; empty where the project's own tests run today's."""


@dataclass(frozen=True)
class Asked:
    """What every runtime looks at."""

    grid: UniformGrid | None
    sizes: Collection[Shape]
    """(out, in) of the compressed layers, each once."""
    rank: int
    all_linear: bool
    has_experts: bool
    is_encoder_decoder: bool = False
    """Whether the model reads one text and predicts another."""

    @property
    def adapter_rank(self) -> int:
        """The largest rank in the adapter: gate and up of fused experts stand as one, of twice the rank."""
        return 2 * self.rank if self.has_experts else self.rank


def verdict_by_source(runtime: str, obstacle: str | None, reason: str, versions: str) -> CompatibilityRow:
    """Return what reading a runtime's source allows to say: "no" with the obstacle, else "untested" with the reason."""
    verdict: Verdict = "untested" if obstacle is None else "no"
    return CompatibilityRow(
        runtime=runtime, verdict=verdict, reason=obstacle or reason, evidence="source", versions=versions
    )


def odd_shape(sizes: Iterable[Shape], out_multiple: int, in_multiple: int) -> str | None:
    """Return which side of which layer is no multiple of what a runtime needs, or None."""
    for out_features, in_features in sorted(sizes):
        if out_features % out_multiple:
            return f"a layer has {out_features} outputs, which must be a multiple of {out_multiple}"
        if in_features % in_multiple:
            return f"a layer has {in_features} inputs, which must be a multiple of {in_multiple}"
    return None


def either(values: Iterable[object]) -> str:
    """Return alternatives as words."""
    words = [str(value) for value in values]
    return f"{', '.join(words[:-1])} or {words[-1]}"
