"""How commands speak: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


class CommandError(Exception):
    """A command that ends with one line on standard error."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def status_console() -> Console:
    """Return the console for progress and remarks, on standard error."""
    return Console(stderr=True, highlight=False)


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_table(table: Table) -> None:
    """Print a table on standard output, as wide as it needs when that is not a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)


def print_line(text: str) -> None:
    """Print a line on standard output; a name in it is never read as markup."""
    sys.stdout.write(text + "\n")


def duration(seconds: float) -> str:
    """Return about how long something takes, in words."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
