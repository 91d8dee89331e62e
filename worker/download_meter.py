"""Progress of a download in bytes, and the way to stop it from inside the client library."""

import threading
from collections.abc import Callable
from typing import Any

from huggingface_hub.utils._xet import abort_xet_session
from huggingface_hub.utils.tqdm import tqdm

from service.hub.model import RepoFile
from srr_core.errors import StopRequested

OnBytes = Callable[[int, int], None]
"""Called with the bytes that have arrived and the bytes there are in all."""
ShouldStop = Callable[[], bool]


class DownloadMeter:
    """Counts the bytes of a download over all files, and stops it from inside the client's progress bar."""

    def __init__(self, total: int, on_progress: OnBytes | None, should_stop: ShouldStop | None) -> None:
        self._total = total
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._thread = threading.get_ident()
        self._finished = 0
        self._current = 0
        self.bar = _bar(self)

    def begin(self) -> None:
        """Count the current file from its start."""
        self._current = 0

    def check(self) -> None:
        """Raise StopRequested when somebody asked for it."""
        if self._should_stop is None or not self._should_stop():
            return
        if threading.get_ident() != self._thread:
            # A callback of the native client: what it raises is printed and forgotten, so its work is called off.
            abort_xet_session()  # type: ignore[no-untyped-call]  # of huggingface_hub
            return
        raise StopRequested("The download was stopped; finished files are kept.")

    def advance(self, count: float | None) -> None:
        """Count bytes of the current file; raises StopRequested."""
        self.check()
        self._current += int(count or 0)
        self._report(self._finished + self._current)

    def finish(self, file: RepoFile) -> None:
        """Count the whole file, however much of it was already there."""
        self._finished += file.size_bytes
        self._current = 0
        self._report(self._finished)

    def _report(self, completed: int) -> None:
        if self._on_progress is not None:
            self._on_progress(min(completed, self._total), self._total)


def _bar(meter: DownloadMeter) -> type[Any]:
    """Return a progress bar class that draws nothing and feeds the meter."""

    class _SilentBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]  # of tqdm

        def update(self, n: float | None = 1) -> bool | None:
            meter.advance(n)
            return None

        def update_transfer(self, n: float | None = 1) -> None:
            """Called for bytes on the wire, which are fewer than the file's: they are no progress of their own."""
            meter.check()

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None:
            """Called with a rate to draw."""

    return _SilentBar
