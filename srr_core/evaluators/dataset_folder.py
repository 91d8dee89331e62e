"""Datasets from a folder that was filled before: repositories of data files at pinned commits, and no code.

The folder holds `datasets.json`, which says for every dataset the commit and where its files lie, so that a folder
can be carried to a machine without network and a report can say which data it is over. The core reads it; the worker
fills it, because only the worker talks to a hub.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from srr_core.errors import EvaluationError, StorageError
from srr_core.evaluators.harness.package import harness_module, quiet

LOCK_FILE = "datasets.json"
DATA_SUFFIXES = (".parquet", ".arrow", ".jsonl", ".json", ".csv", ".tsv", ".txt", ".gz", ".zst", ".xz", ".bz2", ".zip")
"""What a dataset may consist of, beside its README.md, which says which file is which split."""


class PinnedDataset(BaseModel):
    """One dataset as it was fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: str
    """A commit sha."""
    path: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """Its folder inside ours."""


class DatasetLock(BaseModel):
    """`datasets.json`: every dataset of the folder by its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    datasets: dict[str, PinnedDataset] = {}


@dataclass(frozen=True)
class DatasetFolder:
    """A folder of datasets, and a cache that the datasets library writes its own copies to."""

    root: Path
    cache: Path

    def lock(self) -> DatasetLock:
        """Return what the folder holds; nothing, when there is no such folder.

        Raises:
            EvaluationError: datasets.json is damaged.
        """
        file = self.root / LOCK_FILE
        if not file.is_file():
            return DatasetLock()
        try:
            return DatasetLock.model_validate_json(file.read_bytes())
        except ValidationError as cause:
            raise EvaluationError(f"{file} is damaged; remove it and prefetch again") from cause

    def revision(self, dataset: str) -> str | None:
        """Return the commit a dataset was fetched at, or None when it is not here."""
        pinned = self.lock().datasets.get(dataset)
        return None if pinned is None else pinned.revision

    def location(self, dataset: str) -> Path:
        """Return where the files of a dataset lie.

        Raises:
            EvaluationError: it is not here.
        """
        pinned = self.lock().datasets.get(dataset)
        folder = None if pinned is None else self.root / pinned.path
        if folder is None or not folder.is_dir():
            raise EvaluationError(f"dataset {dataset} is not in {self.root}; fetch it with `srr evaluate --prefetch`")
        return folder

    def require_writable_cache(self) -> None:
        """Raise StorageError when the cache cannot be written, before anything else is tried."""
        require_writable(self.cache)


def require_writable(cache: Path) -> None:
    """Make a cache folder; raise StorageError, in one line, when nothing can be written there."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as cause:
        raise StorageError(f"cache folder {cache} cannot be written ({cause.strerror}); name another") from cause


def load_dataset(
    path: str, name: str | None, *, cache: Path, options: Mapping[str, Any], called: str
) -> Mapping[str, Any]:
    """Return the splits of a dataset that lies on this machine.

    Args:
        path: A folder, or a builder for files such as `json`.
        name: Its configuration.
        options: Further arguments of `datasets.load_dataset`.
        called: What the dataset is called in messages.
    Raises:
        EvaluationError: it cannot be read, needs code, or has no such configuration.
    """
    library = harness_module("datasets")
    try:
        with quiet():
            library.disable_progress_bars()
            splits: Mapping[str, Any] = library.load_dataset(path, name, cache_dir=str(cache), **options)
    except RuntimeError as cause:
        if "script" in str(cause):
            raise EvaluationError(f"dataset {called} is made by code of its own, which is never run") from cause
        raise EvaluationError(f"dataset {called} cannot be read: {_first_line(cause)}") from cause
    except PermissionError as cause:
        raise StorageError(f"cache folder {cache} cannot be written: {cause.strerror}; name another") from cause
    except Exception as cause:  # whatever a stranger's files make of a dozen readers
        raise EvaluationError(f"dataset {called} cannot be read: {_first_line(cause)}") from cause
    return splits


def require_splits(splits: Mapping[str, Any], wanted: Mapping[str, str], *, called: str, task: str) -> None:
    """Raise EvaluationError when a dataset lacks a split that a task needs.

    Args:
        wanted: Split -> what the task needs it for.
    """
    for split, use in wanted.items():
        if split not in splits:
            known = ", ".join(sorted(splits)) or "none"
            raise EvaluationError(f"dataset {called} has no split {split!r}, which {task} needs {use}; it has: {known}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
