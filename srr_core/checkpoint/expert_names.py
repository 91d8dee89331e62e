"""What checkpoints and transformers call the experts of a mixture: the one place that parses such names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

GATE_UP, UP, DOWN = "gate_up_proj", "up_proj", "down_proj"
"""The fused parameters, [experts, outputs, inputs], as transformers calls them; a mixture without gates has UP."""
RENAMED = (".block_sparse_moe.", ".mlp.")
"""Mixtral's module on disk and in transformers 5."""

FORMS: Mapping[tuple[str, ...], Mapping[str, tuple[str, int]]] = {
    ("gate_proj", "up_proj", "down_proj"): {
        "gate_proj": (GATE_UP, 0),
        "up_proj": (GATE_UP, 1),
        "down_proj": (DOWN, 0),
    },
    ("w1", "w3", "w2"): {"w1": (GATE_UP, 0), "w3": (GATE_UP, 1), "w2": (DOWN, 0)},
    ("up_proj", "down_proj"): {"up_proj": (UP, 0), "down_proj": (DOWN, 0)},
}
"""The projections an expert has on disk, in the order they are multiplied with -> each one's fused parameter and part
in it. w1, w3, w2 are Mixtral's gate, up and down; the last is a mixture without gates."""
NUM_PARTS = {GATE_UP: 2, UP: 1, DOWN: 1}
"""Projections that one fused parameter is made from."""

_EXPERT = re.compile(r"^(?P<owner>.+\.experts)\.(?P<index>\d+)\.(?P<rest>.+)$")


@dataclass(frozen=True)
class ExpertName:
    """A name on disk such as `model.layers.0.mlp.experts.3.up_proj`, in parts."""

    owner: str
    """`model.layers.0.mlp.experts`"""
    index: int
    projection: str
    """What stands behind the index."""


def expert_name(name: str) -> ExpertName | None:
    """Return the parts of the name of one expert's module or tensor, or None for any other name."""
    match = _EXPERT.match(name)
    return None if match is None else ExpertName(match["owner"], int(match["index"]), match["rest"])


_STACKED = re.compile(r"^(?P<parameter>.+)\.expert\.(?P<index>\d+)$")


@dataclass(frozen=True)
class StackedPart:
    """One matrix of a parameter [experts, rows, columns] that no loader makes from a tensor for each expert."""

    parameter: str
    """Name of the parameter in the model."""
    index: int

    @property
    def name(self) -> str:
        """What the matrix is called in our layout, as if it were a module of its own."""
        return f"{self.parameter}.expert.{self.index}"


def stacked_part(name: str) -> StackedPart | None:
    """Return which matrix of a stacked parameter a layer of our layout is, or None for any other layer."""
    match = _STACKED.match(name)
    return None if match is None else StackedPart(match["parameter"], int(match["index"]))
