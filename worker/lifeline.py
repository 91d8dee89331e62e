"""A pipe whose other end only one process holds: when it closes, that process is gone, however it died."""

import os
import signal
import threading
import time
from collections.abc import Callable

import structlog

_log = structlog.get_logger(__name__)

VARIABLE = "SRR_LIFELINE"
"""Set to `stdin` by whoever starts a worker that is to end with it."""


def watch(pipe: int, then: Callable[[], None]) -> None:
    """Call `then` in a thread as soon as the far end of a pipe is closed."""

    def wait() -> None:
        # Unbuffered: a daemon thread inside a buffered read aborts the interpreter when it ends.
        while os.read(pipe, 1):
            pass
        then()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def kill_group() -> None:
    """Kill this process and its group."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def end_with_starter(*, grace_seconds: float) -> None:
    """End this worker in order when the process that started it has died, and by force after a while.

    Does nothing unless that process said that it holds our standard input. The variable goes no further: what we
    start ourselves has lifelines of its own.
    """
    if os.environ.pop(VARIABLE, None) != "stdin":
        return

    def leave() -> None:
        _log.warning("starter_died")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_seconds)
        kill_group()

    watch(0, leave)
