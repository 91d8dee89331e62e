"""Checkpoints that travel with a result: factors of other steps beside the base that all of them stand on.

Where the result itself is no base for them, because W + L·R is one matrix there, the base lies beside them. Stock
loaders pass them by, because they lie in folders of their own. Read without torch.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from srr_core.checkpoint.artifact_names import ADAPTER_FILE
from srr_core.errors import RecipeError

KEPT_FOLDER = "checkpoints"
KEPT_BASE = f"{KEPT_FOLDER}/base"
"""What the checkpoints of a result stand on that is merged, or compressed again."""
_STEP = re.compile(rf"^{KEPT_FOLDER}/step-(\d{{8}})/([^/]+)$")


def kept_folder(artifact: Path, step: int) -> Path:
    """Return where the checkpoint after a number of steps lies."""
    return artifact / KEPT_FOLDER / f"step-{step:08d}"


def kept_step(path: str) -> int | None:
    """Return the steps of the checkpoint that a file of a result belongs to, or None for any other file."""
    found = _STEP.match(path)
    return None if found is None else int(found[1])


def kept_steps(paths: Iterable[str]) -> tuple[int, ...]:
    """Return the steps of every checkpoint among the files of a result, in order."""
    steps = (kept_step(path) for path in paths if path.endswith(f"/{ADAPTER_FILE}"))
    return tuple(sorted({step for step in steps if step is not None}))


def is_of_kept_base(path: str) -> bool:
    """Whether a file of a result belongs to the base that its checkpoints alone stand on."""
    return path.startswith(f"{KEPT_BASE}/")


def require_kept(name: str, step: int, steps: Iterable[int]) -> None:
    """Refuse a checkpoint that is not there.

    Args:
        name: Of the result, for the message.
    Raises:
        RecipeError: what is kept is said; nothing is, unless the fine-tuning was told to.
    """
    known = tuple(steps)
    if step in known:
        return
    if known:
        raise RecipeError(f"{name} keeps no checkpoint of step {step}, but of {', '.join(map(str, known))}")
    raise RecipeError(
        f"{name} keeps no checkpoints: they are published where checkpoints.publish is true, and gone with the job "
        "otherwise; run it again with it, or start from the result itself"
    )
