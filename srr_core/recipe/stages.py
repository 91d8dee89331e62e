"""The stages of a run, in order, and how much of the whole each takes: for the core and for whoever watches it."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Stage(StrEnum):
    """A step of the way from a source model to a published artifact."""

    DOWNLOAD = "download"
    VALIDATE = "validate"
    PLAN = "plan"
    SEARCH = "search"
    """Only where a recipe has a budget."""
    CALIBRATE = "calibrate"
    LEARN = "learn"
    """Only where rounding is learned; its time is apart from that of compressing."""
    BASELINES = "baselines"
    """Only where a recipe has baselines: they are quantized while compressing and run while evaluating."""
    COMPRESS = "compress"
    ASSEMBLE = "assemble"
    REPAIR = "repair"
    """Only where a recipe has a repair."""
    TRAIN = "train"
    CONVERT = "convert"
    VERIFY = "verify"
    EVALUATE = "evaluate"
    PUBLISH = "publish"


Shares = Mapping[Stage, tuple[float, float]]
"""Where each stage of one kind of run begins and ends in the whole, from 0 to 1, in order."""

COMPRESSION: Shares = MappingProxyType(
    {
        Stage.DOWNLOAD: (0.0, 0.15),
        Stage.PLAN: (0.15, 0.16),
        Stage.SEARCH: (0.16, 0.16),
        Stage.CALIBRATE: (0.16, 0.16),
        Stage.LEARN: (0.16, 0.16),
        Stage.BASELINES: (0.16, 0.16),
        Stage.COMPRESS: (0.16, 0.80),
        Stage.ASSEMBLE: (0.80, 0.82),
        Stage.REPAIR: (0.82, 0.82),
        Stage.VERIFY: (0.82, 0.87),
        Stage.EVALUATE: (0.87, 0.95),
        Stage.PUBLISH: (0.95, 1.0),
    }
)
"""A heuristic, from runs of the demo model. Calibration, learning and compression alternate block by block, and
finished layers alone count. A search comes before them and a repair after them; most runs have neither, so they have
no parts of their own."""

TUNING: Shares = MappingProxyType(
    {
        Stage.DOWNLOAD: (0.0, 0.05),
        Stage.VALIDATE: (0.05, 0.06),
        Stage.COMPRESS: (0.06, 0.30),
        Stage.TRAIN: (0.30, 0.88),
        Stage.EVALUATE: (0.88, 0.93),
        Stage.VERIFY: (0.93, 0.95),
        Stage.PUBLISH: (0.95, 1.0),
    }
)
"""A heuristic, from runs of the demo model."""

EVALUATION: Shares = MappingProxyType(
    {Stage.DOWNLOAD: (0.0, 0.2), Stage.EVALUATE: (0.2, 0.98), Stage.PUBLISH: (0.98, 1.0)}
)
"""A heuristic: evaluators take from seconds to hours, and each counts the same."""

CONVERSION: Shares = MappingProxyType(
    {Stage.DOWNLOAD: (0.0, 0.3), Stage.CONVERT: (0.3, 0.9), Stage.PUBLISH: (0.9, 1.0)}
)
"""A heuristic: a conversion reads and writes every byte once, and so do both transfers."""


def share_done(
    stage: Stage,
    completed: int,
    total: int,
    *,
    shares: Shares = COMPRESSION,
    first: Stage = Stage.DOWNLOAD,
    last: Stage = Stage.PUBLISH,
) -> float:
    """Return how much of the whole is done, from 0 to 1, when `completed` of `total` units of a stage are.

    Args:
        shares: Of the kind of run.
        first: The stage the whole begins with, and `last` the one it ends with; `stage` lies between them.
    """
    begin, end = shares[stage]
    start, stop = shares[first][0], shares[last][1]
    return (begin + (end - begin) * (completed / total if total else 1.0) - start) / (stop - start)
