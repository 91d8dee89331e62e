"""The `srr` command in this process, from its entry point to its exit code."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from service.cli import main


@dataclass(frozen=True)
class Done:
    """What a finished command left."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


def command_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what runs the command with arguments."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["srr", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        code = left.value.code
        assert isinstance(code, int)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run
