"""Files of training data as rows, read without torch: JSON lines, CSV, TSV, Parquet and plain text."""

import csv
import hashlib
import importlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from srr_core.errors import TrainingDataError

Format = Literal["jsonl", "csv", "tsv", "parquet", "text"]
Unit = Literal["file", "paragraph", "line"]
_ENDINGS: Mapping[str, Format] = MappingProxyType(
    {
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".csv": "csv",
        ".tsv": "tsv",
        ".parquet": "parquet",
        ".txt": "text",
        ".text": "text",
    }
)
MAX_FIELD_CHARACTERS = 10_000_000
"""Of one CSV field; the csv module's own limit of 131,072 is shorter than a long document."""


@dataclass(frozen=True)
class Row:
    """One row as its file holds it."""

    number: int
    """Counted from 1 as an editor does: the line for JSON lines and text, the record for CSV (without its header)."""
    values: Mapping[str, Any]


def format_of(file: Path) -> Format:
    """Return the format that a file's name ends with.

    Raises:
        TrainingDataError: it is none of those that can be read.
    """
    try:
        return _ENDINGS[file.suffix.lower()]
    except KeyError:
        known = ", ".join(_ENDINGS)
        raise TrainingDataError(f"{file.name} ends with none of {known}; rename it, or name its format") from None


def read_rows(file: Path, form: Format | Literal["auto"] = "auto", *, unit: Unit = "paragraph") -> Iterator[Row]:
    """Yield the rows of a file in order; blank lines are no rows.

    Args:
        form: By the ending of the name where it is "auto".
        unit: What one row of a plain text is; its column is called `text`.
    Raises:
        TrainingDataError: the file is missing, no UTF-8, or not of the format; the message names the row.
    """
    chosen = format_of(file) if form == "auto" else form
    try:
        if chosen == "parquet":
            yield from _parquet(file)
        elif chosen == "text":
            yield from _text(file, unit)
        else:
            yield from _READERS[chosen](file)
    except OSError as error:
        raise TrainingDataError(f"{file.name} cannot be read: {error.strerror}") from error


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file. Raises TrainingDataError."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise TrainingDataError(f"{file.name} cannot be read: {error.strerror}") from error


def _json_lines(file: Path) -> Iterator[Row]:
    for number, line in _lines(file):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise TrainingDataError(f"{file.name}, row {number}: is no JSON: {error}") from error
        except RecursionError:
            raise TrainingDataError(f"{file.name}, row {number}: is nested too deeply") from None
        if not isinstance(value, dict):
            raise TrainingDataError(f"{file.name}, row {number}: is a {type(value).__name__}, not an object of columns")
        yield Row(number, value)


def _separated(file: Path, delimiter: str) -> Iterator[Row]:
    # A quote means nothing in TSV as GLUE and its like are written.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    before = csv.field_size_limit(MAX_FIELD_CHARACTERS)
    try:
        text = "".join(line for _, line in _lines(file, keep_ends=True))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        header = next(reader, None)
        if header is None:
            return
        if len(set(header)) < len(header):
            raise TrainingDataError(f"{file.name}: its first line names a column twice: {', '.join(header)}")
        for number, fields in enumerate(reader, start=1):
            if not fields:
                continue
            if len(fields) != len(header):
                raise TrainingDataError(
                    f"{file.name}, row {number}: has {len(fields)} fields, its first line names {len(header)}"
                )
            yield Row(number, dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise TrainingDataError(f"{file.name}, line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _text(file: Path, unit: Unit) -> Iterator[Row]:
    parts: list[str] = []
    began = 1
    for number, line in _lines(file):
        if unit == "line":
            if line.strip():
                yield Row(number, {"text": line})
        elif unit == "paragraph" and not line.strip():
            if parts:
                yield Row(began, {"text": "\n".join(parts)})
            parts = []
        else:
            if not parts:
                began = number
            parts.append(line)
    whole = "\n".join(parts)
    if whole.strip():
        yield Row(began, {"text": whole})


def _parquet(file: Path) -> Iterator[Row]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise TrainingDataError(
            f"{file.name} is a Parquet file, which pyarrow reads: pip install pyarrow, or convert it to JSON lines"
        ) from None
    try:
        table = parquet.ParquetFile(file)
        number = 0
        for batch in table.iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(number, values)
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        raise TrainingDataError(f"{file.name} is no Parquet file that pyarrow can read: {error}") from error


def _lines(file: Path, *, keep_ends: bool = False) -> Iterator[tuple[int, str]]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TrainingDataError(
                    f"{file.name}, line {number}: is not UTF-8 text (byte {error.start} of the line); save it as UTF-8"
                ) from error
            yield number, text if keep_ends else text.rstrip("\r\n")


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = MappingProxyType(
    {
        "jsonl": _json_lines,
        "csv": lambda file: _separated(file, ","),
        "tsv": lambda file: _separated(file, "\t"),
    }
)
