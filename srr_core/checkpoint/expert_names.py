"""What checkpoints and transformers call the experts of a mixture: the one place that parses such names."""

import re
from dataclasses import dataclass

GATE_UP, UP, DOWN = "gate_up_proj", "up_proj", "down_proj"
"""The fused parameters, [experts, outputs, inputs], as transformers calls them; a mixture without gates has UP."""
RENAMED = (".block_sparse_moe.", ".mlp.")
"""Mixtral's module on disk and in transformers 5."""

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
