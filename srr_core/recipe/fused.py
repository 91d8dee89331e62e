"""Which layers of a block loaders fuse into one matrix, and which therefore need one setting."""

import re
from collections.abc import Iterable

_EXPERTS = re.compile(r"^(?P<owner>.+\.experts)\.\d+\.")
FUSED_NAMES = (
    frozenset({"q_proj", "k_proj", "v_proj"}),
    frozenset({"query", "key", "value"}),
    frozenset({"gate_proj", "up_proj"}),
    frozenset({"w1", "w3"}),
)
"""Projections of one module that vLLM and SGLang hold as one matrix, by the names transformers gives them."""


def fused_groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return layers in sets that share a setting, in the order given; a layer that is fused with no other is alone.

    Args:
        names: Of layers, as reports have them.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(_key(name), []).append(name)
    return [tuple(members) for members in groups.values()]


def _key(name: str) -> tuple[str, ...]:
    expert = _EXPERTS.match(name)
    if expert is not None:
        return (expert["owner"],)
    parent, _, leaf = name.rpartition(".")
    fused = next((number for number, leaves in enumerate(FUSED_NAMES) if leaf in leaves), None)
    return (name,) if fused is None else (parent, str(fused))
