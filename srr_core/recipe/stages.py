"""The stages of a run, in order, and how much of the whole each takes: for the core and for whoever watches it."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Stage(StrEnum):
    """A step of the way from a source model to a published artifact."""

    DOWNLOAD = "download"
    PLAN = "plan"
    SEARCH = "search"
    """Only where a recipe has a budget."""
    CALIBRATE = "calibrate"
    COMPRESS = "compress"
    ASSEMBLE = "assemble"
    VERIFY = "verify"
    EVALUATE = "evaluate"
    PUBLISH = "publish"


SHARES: Mapping[Stage, tuple[float, float]] = MappingProxyType(
    {
        Stage.DOWNLOAD: (0.0, 0.15),
        Stage.PLAN: (0.15, 0.16),
        Stage.SEARCH: (0.16, 0.30),
        Stage.CALIBRATE: (0.16, 0.16),
        Stage.COMPRESS: (0.16, 0.80),
        Stage.ASSEMBLE: (0.80, 0.82),
        Stage.VERIFY: (0.82, 0.87),
        Stage.EVALUATE: (0.87, 0.95),
        Stage.PUBLISH: (0.95, 1.0),
    }
)
"""Where each stage begins and ends in the whole: a heuristic, from runs of the demo model. Calibration and compression
alternate block by block, and finished layers alone count. A search comes before both; most runs have none, so it has no
part of its own."""


def share_done(
    stage: Stage, completed: int, total: int, *, first: Stage = Stage.DOWNLOAD, last: Stage = Stage.PUBLISH
) -> float:
    """Return how much of the whole is done, from 0 to 1, when `completed` of `total` units of a stage are.

    Args:
        first: The stage the whole begins with, and `last` the one it ends with; `stage` lies between them.
    """
    begin, end = SHARES[stage]
    start, stop = SHARES[first][0], SHARES[last][1]
    return (begin + (end - begin) * (completed / total if total else 1.0) - start) / (stop - start)
