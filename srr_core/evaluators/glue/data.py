"""Labelled sentences and pairs of them, from the files of GLUE, from JSON lines, or from rows of a dataset."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srr_core.errors import EvaluationError
from srr_core.recipe.glue_tasks import GlueTask

_COLA_COLUMNS = 4
"""source, label, the author's star, sentence: the one file of GLUE without a header."""


@dataclass(frozen=True)
class Example:
    """One sentence or pair, and what is right about it."""

    first: str
    second: str | None
    label: float
    """The number of a class, or a score."""


def read_examples(file: Path, task: GlueTask) -> list[Example]:
    """Return the examples of a file, in order.

    `.jsonl` has one object a line; any other file is tab-separated with a header, unquoted, as GLUE distributes it.
    Without a header: CoLA's four columns, and `sentence<TAB>label`.

    Raises:
        EvaluationError: the file cannot be read, or a row lacks a sentence or a label; the message names the line.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as cause:
        raise EvaluationError(f"{file.name} is not UTF-8 text (byte {cause.start}); save it as UTF-8") from cause
    except OSError as cause:
        raise EvaluationError(f"{file.name} cannot be read: {cause.strerror}") from cause
    numbered = [(number, line.rstrip("\r")) for number, line in enumerate(lines, start=1) if line.strip()]
    rows = _json_rows(file.name, numbered) if file.suffix == ".jsonl" else _table_rows(file.name, numbered, task)
    return _examples(rows, task)


def examples_from_rows(rows: Iterable[Mapping[str, Any]], task: GlueTask, *, called: str) -> list[Example]:
    """Return the examples of a dataset that is loaded already.

    Raises:
        EvaluationError: a row lacks a sentence or a label.
    """
    return _examples(((f"{called} row {number}", row) for number, row in enumerate(rows, start=1)), task)


def _examples(rows: Iterable[tuple[str, Mapping[str, Any]]], task: GlueTask) -> list[Example]:
    examples = []
    for place, row in rows:
        first = _text(row, task.first, place, task)
        second = _text(row, task.second, place, task) if task.second else None
        examples.append(Example(first, second, _label(row, place, task)))
    if not examples:
        raise EvaluationError(f"there is no example for {task.name}")
    return examples


def _json_rows(name: str, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as cause:
            raise EvaluationError(f"{name} line {number} is no JSON: {cause.msg}") from cause
        if not isinstance(row, dict):
            raise EvaluationError(f"{name} line {number} is no JSON object")
        yield f"{name} line {number}", row


def _table_rows(name: str, lines: Sequence[tuple[int, str]], task: GlueTask) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not lines:
        return
    header = lines[0][1].split("\t")
    body = lines[1:]
    if not set(header) & set(task.label):
        header, body = _missing_header(name, header, task), lines
    for number, line in body:
        # GLUE quotes nothing, and its last columns may be left out.
        yield f"{name} line {number}", dict(zip(header, line.split("\t"), strict=False))


def _missing_header(name: str, first: Sequence[str], task: GlueTask) -> list[str]:
    if task.name == "cola" and len(first) == _COLA_COLUMNS:
        return ["source", "label", "star", "sentence"]
    if not task.second and len(first) == 2:
        return ["sentence", "label"]
    wanted = " or ".join(task.label)
    raise EvaluationError(
        f"{name} has no column {wanted}, which {task.name} needs; its first line is {list(first)[:6]}"
    )


def _text(row: Mapping[str, Any], names: Sequence[str], place: str, task: GlueTask) -> str:
    value = next((row[name] for name in names if isinstance(row.get(name), str)), None)
    if value is None:
        raise EvaluationError(f"{place} has no {' or '.join(names)}, which {task.name} needs")
    return str(value)


def _label(row: Mapping[str, Any], place: str, task: GlueTask) -> float:
    value = next((row[name] for name in task.label if row.get(name) is not None), None)
    if isinstance(value, str) and value.strip() in task.labels:
        return float(task.labels.index(value.strip()))
    try:
        number = float(value)  # type: ignore[arg-type]  # None raises TypeError, which is caught
    except (TypeError, ValueError):
        number = math.nan
    is_class = not task.labels or (number.is_integer() and 0 <= number < len(task.labels))
    if not math.isfinite(number) or not is_class:
        known = ", ".join(task.labels) or "a number"
        raise EvaluationError(
            f"{place} has the label {value!r}; {task.name} knows {known} (the test files of GLUE hide theirs)"
        )
    return number
