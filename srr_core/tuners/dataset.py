"""From files of rows to what training and validation are computed from, everything refused that cannot be learned."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from srr_core.errors import TrainingDataError
from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.tuning_tasks import ClassificationTask, GLUETask, RegressionTask, TextTask
from srr_core.tuners.data_report import DataReport, Piece, Preview, SplitReport
from srr_core.tuners.examples import Example
from srr_core.tuners.packing import Window, alone, pack
from srr_core.tuners.rendering import PlainTask, Renderer, label_text, renderer_of
from srr_core.tuners.rows import Row, file_digest, read_rows

T = TypeVar("T")

NUM_PREVIEWS = 3
PREVIEW_CHARACTERS = 4000
"""Of one piece; what is behind is left out of the report."""
MAX_NAMED_ROWS = 5
"""Rows a refusal names."""


@dataclass(frozen=True)
class Dataset:
    """Examples ready to be batched, and the report about them."""

    task: PlainTask
    labels: tuple[str, ...]
    """Names of the classes in the order of their numbers; empty for other tasks."""
    training: tuple[Window, ...]
    validation: tuple[Example, ...]
    is_packed: bool
    report: DataReport


def prepare(
    data: Path, spec: TuningSpec, tokenizer: Any, *, validation: Path | None = None, stops: Iterable[int] = ()
) -> Dataset:
    """Return the data of a run, checked.

    Args:
        validation: Rows of the same form; by default a share of the training rows, chosen by their content, so that
            copies of one row never fall on both sides.
        tokenizer: Of transformers, with offsets.
        stops: Tokens that end a generation, beside the tokenizer's own.
    Raises:
        TrainingDataError: the rows cannot be learned from; the message names the file and the row.
    """
    task = plain_task(spec)
    rows = rows_of(data, spec, task)
    held_out = rows_of(validation, spec, task) if validation is not None else []
    labels = labels_of(data, task, rows)
    renderer = renderer_of(task, tokenizer, window=spec.data.window, too_long=spec.data.too_long, labels=labels)
    keys = each_row(data, rows, lambda row: _key(renderer, row))
    kept, duplicates = _without_duplicates(rows, keys)
    if spec.data.duplicates == "drop":
        rows = kept
        keys = [_key(renderer, row) for row in rows]
    examples = _flat(each_row(data, rows, lambda row: tuple(renderer.examples(row))))
    leaked = 0
    if validation is not None:
        known = set(keys)
        leaked = sum(key in known for key in each_row(validation, held_out, lambda row: _key(renderer, row)))
        kept_out = _flat(each_row(validation, held_out, lambda row: tuple(renderer.examples(row))))
    else:
        examples, kept_out = _split(examples, dict(zip((row.number for row in rows), keys, strict=True)), spec)
    _require(data, examples, kept_out)
    _require_stop(data, task, examples, {*stops, *_own_stop(tokenizer)})
    is_packed = spec.batch.packing and not isinstance(task, ClassificationTask | RegressionTask)
    windows = pack(examples, spec.data.window) if is_packed else alone(examples)
    steps_per_epoch = -(-len(windows) // (spec.batch.size * spec.batch.accumulation))
    steps = steps_per_epoch * spec.schedule.epochs
    report = DataReport(
        sha256=" ".join(file_digest(file) for file in (data, validation) if file is not None),
        training=_describe(examples, labels),
        validation=_describe(kept_out, labels),
        duplicates=duplicates,
        leaked=leaked,
        windows=len(windows),
        steps_per_epoch=steps_per_epoch,
        steps=steps if spec.schedule.max_steps is None else min(steps, spec.schedule.max_steps),
        previews=_previews(examples, renderer, labels),
        notes=_notes(examples, kept_out, labels, leaked),
    )
    return Dataset(task, labels, tuple(windows), tuple(kept_out), is_packed, report)


def plain_task(spec: TuningSpec) -> PlainTask:
    """Return the task with the columns and labels of a named one spelt out."""
    return spec.task.as_plain() if isinstance(spec.task, GLUETask) else spec.task


def rows_of(file: Path, spec: TuningSpec, task: PlainTask) -> list[Row]:
    """Return the rows of a file that a specification asks for. Raises TrainingDataError."""
    unit = task.unit if isinstance(task, TextTask) else "line"
    rows = list(islice(read_rows(file, spec.data.format, unit=unit), spec.data.max_rows))
    if not rows:
        raise TrainingDataError(f"{file.name} holds no row")
    return rows


def labels_of(file: Path, task: PlainTask, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the names of the classes in the order of their numbers; none for other tasks. Raises TrainingDataError."""
    if not isinstance(task, ClassificationTask):
        return ()
    found = Counter(each_row(file, rows, lambda row: label_text(row, task.label)))
    if len(found) < 2:
        only = next(iter(found))
        raise TrainingDataError(f"{file.name}: every row has the label {only!r}; two labels are needed to tell apart")
    if task.labels is not None:
        return task.labels
    is_numbered = all(name.lstrip("-").isdecimal() for name in found)
    return tuple(sorted(found, key=int) if is_numbered else sorted(found))


def each_row(file: Path, rows: Sequence[Row], use: Callable[[Row], T]) -> list[T]:
    """Return what a function makes of every row; all rows it refuses are told at once. Raises TrainingDataError."""
    results: list[T] = []
    problems: list[tuple[int, TrainingDataError]] = []
    for row in rows:
        try:
            results.append(use(row))
        except TrainingDataError as error:
            problems.append((row.number, error))
    if problems:
        (number, first), *others = problems
        further = ""
        if others:
            named = ", ".join(str(number) for number, _ in others[: MAX_NAMED_ROWS - 1])
            further = (
                f" ({len(others)} more rows are refused: {named}{', ...' if len(others) >= MAX_NAMED_ROWS else ''})"
            )
        raise TrainingDataError(f"{file.name}, row {number}: {first}{further}") from first
    return results


def _flat(examples: Iterable[Sequence[Example]]) -> list[Example]:
    return [example for several in examples for example in several]


def _key(renderer: Renderer, row: Row) -> bytes:
    return hashlib.sha256(repr(renderer.content(row)).encode()).digest()


def _without_duplicates(rows: Sequence[Row], keys: Sequence[bytes]) -> tuple[list[Row], int]:
    seen: dict[bytes, Row] = {}
    for row, key in zip(rows, keys, strict=True):
        seen.setdefault(key, row)
    return list(seen.values()), len(rows) - len(seen)


def _split(
    examples: Sequence[Example], keys: dict[int, bytes], spec: TuningSpec
) -> tuple[list[Example], list[Example]]:
    """Return training and validation examples; those of one row, and of its copies, stay together."""
    ranked = sorted(set(keys.values()))
    if len(ranked) == 1:  # one long text: its end is held out
        count = max(1, round(len(examples) * spec.data.validation_share))
        return list(examples[:-count]), list(examples[-count:])
    chosen = set(ranked[: max(1, round(len(ranked) * spec.data.validation_share))])
    held_out = [example for example in examples if keys[example.row] in chosen]
    return [example for example in examples if keys[example.row] not in chosen], held_out


def _require(file: Path, examples: Sequence[Example], held_out: Sequence[Example]) -> None:
    if not examples or not held_out:
        raise TrainingDataError(
            f"{file.name} holds too little: {len(examples)} examples to learn from and {len(held_out)} to judge by; "
            "give more rows, or a validation file"
        )


def _require_stop(file: Path, task: PlainTask, examples: Sequence[Example], stops: set[int]) -> None:
    if isinstance(task, ClassificationTask | RegressionTask | TextTask):
        return
    if not stops:
        raise TrainingDataError("the tokenizer has no token that ends a text, so the model could not learn to stop")
    if not any(_learns_to_stop(example, stops) for example in examples):
        raise TrainingDataError(
            f"{file.name}: no example teaches a token that ends a generation ({', '.join(map(str, sorted(stops)))}), "
            "so the model would never stop; end the turns of the template with one, or cut fewer rows"
        )


def _learns_to_stop(example: Example, stops: set[int]) -> bool:
    return any(
        token in stops and bool(is_trained) for token, is_trained in zip(example.ids, example.trained, strict=True)
    )


def _own_stop(tokenizer: Any) -> set[int]:
    return set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}


def _describe(examples: Sequence[Example], labels: Sequence[str]) -> SplitReport:
    counts = Counter(labels[int(example.label)] for example in examples if labels and example.label is not None)
    return SplitReport(
        rows=len({example.row for example in examples}),
        examples=len(examples),
        tokens=sum(len(example) for example in examples),
        trained_tokens=sum(example.num_trained for example in examples),
        longest=max(len(example) for example in examples),
        truncated=sum(example.is_truncated for example in examples),
        labels={name: counts[name] for name in labels},
    )


def _previews(examples: Sequence[Example], renderer: Renderer, labels: Sequence[str]) -> tuple[Preview, ...]:
    places = sorted({0, len(examples) // 2, len(examples) - 1})[:NUM_PREVIEWS]
    return tuple(
        Preview(
            row=examples[place].row,
            pieces=tuple(
                Piece(text=text[:PREVIEW_CHARACTERS], is_trained=is_trained)
                for text, is_trained in renderer.preview(examples[place])
            ),
            label=_label_name(examples[place], labels),
        )
        for place in places
    )


def _label_name(example: Example, labels: Sequence[str]) -> str | None:
    if example.label is None:
        return None
    return labels[int(example.label)] if labels else str(example.label)


def _notes(
    examples: Sequence[Example], held_out: Sequence[Example], labels: Sequence[str], leaked: int
) -> tuple[str, ...]:
    notes = []
    found = {example.label for example in examples}
    if absent := [name for number, name in enumerate(labels) if number not in found]:
        notes.append(f"no training row has the label {', '.join(map(repr, absent))}")
    if leaked:
        notes.append(f"{leaked} rows of the validation file are training rows too; its numbers will flatter")
    if cut := sum(example.is_truncated for example in (*examples, *held_out)):
        notes.append(f"{cut} examples were cut to the window")
    return tuple(notes)
