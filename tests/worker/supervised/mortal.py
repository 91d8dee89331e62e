"""A job's process with the real core, killed at an instant that the first word of SRR_STAND_IN names.

`never`, the name of a checkpoint (`step-00000006`): just before that one becomes durable, or a number: so many seconds
after the core has begun to write. A kill is SIGKILL, as from the kernel when memory runs out: nothing is tidied up.

Run as a script by the supervisor under test, in place of `python -m worker.child`.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from worker.child import main

NEVER = "never"
_AuditHook = Callable[[str, tuple[object, ...]], None]


def die() -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def before_checkpoint(name: str) -> _AuditHook:
    """Return a hook that dies when a checkpoint is complete but for the rename that makes it count."""

    def look(event: str, facts: tuple[object, ...]) -> None:
        if event == "os.rename" and os.path.basename(str(facts[1])) == name:  # noqa: PTH119  # no import in a hook
            die()

    return look


def after_seconds(seconds: float) -> _AuditHook:
    """Return a hook that dies some time after the folder of unfinished work has appeared."""

    def wait() -> None:
        time.sleep(seconds)
        die()

    is_begun = False

    def look(event: str, facts: tuple[object, ...]) -> None:
        nonlocal is_begun
        if not is_begun and event == "os.mkdir" and ".partial" in str(facts[0]):
            is_begun = True
            threading.Thread(target=wait, daemon=True).start()

    return look


def hook_for(instant: str) -> _AuditHook | None:
    """Return what dies at an instant."""
    if instant == NEVER:
        return None
    return before_checkpoint(instant) if instant.startswith("step-") else after_seconds(float(instant))


if __name__ == "__main__":
    hook = hook_for(os.environ["SRR_STAND_IN"])
    if hook is not None:
        sys.addaudithook(hook)
    sys.exit(main())
