"""A progress bar for a job or for a compression in this process, on standard error."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from service.commands.output import status_console

_SAID = {"loss": "loss", "learning_rate": "learning rate", "validation_loss": "validation loss"}
"""Of the rows of a training."""


class ProgressBar:
    """Shows one bar with the stage and the last finished layer. On no terminal, one line per stage."""

    def __init__(self, title: str) -> None:
        self._console = status_console()
        self._progress = Progress(
            TextColumn("{task.fields[stage]:<9}"),
            BarColumn(bar_width=32),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[remark]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._title = title
        self._task: TaskID | None = None
        self._stage = ""
        self._printed: set[str] = set()

    def __enter__(self) -> Self:
        self._console.print(escape(self._title))
        self._progress.start()
        self._task = self._progress.add_task("", total=1.0, stage="queued", remark="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take in one event of a job."""
        if kind == "progress":
            self.advance(str(data.get("stage", "")), float(data.get("progress", 0.0)))
        elif kind == "state":
            self._printed.clear()
            self.advance(str(data.get("state", "")), None)
        elif kind == "layer":
            self.remark(f"{data.get('layer', '')}  error {float(data.get('output_error', 0.0)):.4f}")
        elif text := training_text(kind, data):
            self.remark(text)

    def advance(self, stage: str, share: float | None) -> None:
        """Show the stage and how much of the whole is done, from 0 to 1."""
        if self._task is None:
            return
        if not self._console.is_terminal and stage not in self._printed:
            self._console.print(escape(stage))
        self._printed.add(stage)
        if stage != self._stage:
            self.remark("")
        self._stage = stage
        self._progress.update(self._task, stage=escape(stage), completed=1.0 if stage == "succeeded" else share)

    def remark(self, text: str) -> None:
        """Show a word beside the bar."""
        if self._task is not None:
            self._progress.update(self._task, remark=escape(text))


def training_text(kind: str, data: Mapping[str, Any]) -> str:
    """Return an event of a training in words: its last step and evaluation; empty for other events."""
    if kind == "checkpoint":
        return f"checkpoint at step {data.get('step')}"
    rows = data.get("rows") if kind == "metrics" else None
    if not rows:
        return ""
    said = {name: value for row in rows for name, value in row.items() if name in _SAID}
    words = [f"{label} {said[name]:.4g}" for name, label in _SAID.items() if name in said]
    return ", ".join([f"step {rows[-1].get('step', 0):.0f}", *words])
