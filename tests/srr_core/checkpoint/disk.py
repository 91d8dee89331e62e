"""A disk whose power fails at the n-th operation on its files, and what is on it afterwards.

The worst that a file system may do is assumed: content that was not flushed is half there, and a name that was not
flushed with its folder is as it was before.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class PowerFailure(BaseException):
    """No program catches this."""


class Disk:
    """Watches what is done to files under a folder, through `os` and `io`, and fails at one of the operations."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unflushed: set[Path] = set()
        self._renames: list[tuple[Path, bytes | None]] = []
        self.operations = 0
        self.fails_at: int | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Watch from now on."""
        for module, name, note in (
            (io, "open", self._opened),
            (os, "replace", self._replaced),
            (os, "unlink", self._unlinked),
            (os, "fsync", self._flushed),
        ):
            monkeypatch.setattr(module, name, self._watched(getattr(module, name), note))

    def _watched(self, act: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            note(*args)
            return act(*args, **kwargs)

        return watched

    def _opened(self, file: Any, mode: str = "r", *_: Any) -> None:
        if "w" in mode and self._is_ours(file):
            self._count()
            self._unflushed.add(Path(file))

    def _replaced(self, source: Any, target: Any) -> None:
        source, target = Path(source), Path(target)
        if self._is_ours(target):
            self._count()
            self._renames.append((target, target.read_bytes() if target.exists() else None))
            self._unflushed.discard(target)
            if source in self._unflushed:
                self._unflushed.symmetric_difference_update({source, target})

    def _unlinked(self, file: Any, *_: Any) -> None:
        if self._is_ours(file) and Path(file).exists():
            self._count()

    def _flushed(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if self._is_ours(path):
            self._count()
            self._unflushed.discard(path)
            self._renames = [(target, before) for target, before in self._renames if target.parent != path]

    def lose_power(self) -> None:
        """Leave what is certain to be there, and go on with a disk that works."""
        self.fails_at = None
        for file in self._unflushed:
            if file.exists():
                content = file.read_bytes()
                file.write_bytes(content[: len(content) // 2])
        for target, before in reversed(self._renames):
            if before is None:
                target.unlink(missing_ok=True)
            else:
                target.write_bytes(before)
        self._unflushed, self._renames = set(), []

    def _count(self) -> None:
        self.operations += 1
        if self.fails_at is not None and self.operations >= self.fails_at:
            raise PowerFailure(self.operations)

    def _is_ours(self, file: Any) -> bool:
        return not isinstance(file, int) and Path(file).is_relative_to(self._folder)
