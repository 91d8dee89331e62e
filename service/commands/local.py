"""Commands that compute on this machine, found without importing torch before."""

import importlib
from typing import Any

from service.commands.output import EXIT_BAD_INPUT, CommandError


def worker_command(name: str, module: str = "worker.commands") -> Any:
    """Return a command that needs torch; by name, because the service never imports the worker.

    Raises:
        CommandError: what it needs is not installed.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise CommandError(
            f"this command needs {error.name}, which is not installed: pip install 'srr-compression[worker]'",
            exit_code=EXIT_BAD_INPUT,
        ) from error
