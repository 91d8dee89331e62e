"""One embedded service for each data directory: two would share its worker's scratch space, broker and log."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.commands.output import EXIT_BAD_INPUT, CommandError

LOCK_NAME = "serve.lock"


@contextmanager
def occupying(data_dir: Path) -> Iterator[Callable[[str], None]]:
    """Have a data directory for oneself; yields a function that notes the address for whoever comes second.

    The lock is the kernel's and falls with the process, however that dies.

    Raises:
        CommandError: another service has it; the message names its process and address.
    """
    descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"{data_dir} is in use by {_occupant(descriptor)}; stop that one, or choose another --data-dir",
                exit_code=EXIT_BAD_INPUT,
            ) from None

        def note(url: str) -> None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "url": url}).encode(), 0)

        yield note
    finally:
        os.close(descriptor)


def _occupant(descriptor: int) -> str:
    try:
        said = json.loads(os.pread(descriptor, 4096, 0))
        return f"the service at {said['url']}, process {said['pid']}"
    except (ValueError, KeyError, TypeError):
        return "another service, which is just starting"
