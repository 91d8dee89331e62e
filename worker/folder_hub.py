"""A directory tree that behaves like a hub: the embedded default, and where results go without an account.

`service/hub/folder.py` draws the layout and reads it; this module writes. Writers of one repository take turns by a
lock on its directory, which the kernel drops when a process dies; readers need none.
"""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from service.hub.destination import Holding, check_destination
from service.hub.errors import DownloadCorruptedError, InvalidRepoIdError, StaleParentError
from service.hub.folder import (
    MAIN,
    CommittedFile,
    FolderCommit,
    FolderMetadata,
    FolderRepository,
    RepositorySettings,
)
from service.hub.model import RepoFile, ResolvedModel
from service.hub.naming import check_repo_id
from srr_core.errors import StopRequested
from worker.hub import OnBytes, PublishedCommit, ShouldStop, artifact_files, wanted_files
from worker.integrity import discard_unlisted, sha256_of

_CHUNK_BYTES = 1 << 20
QUIET_SECONDS = 5.0
"""A plain folder in which nothing has changed for this long has been copied completely. A heuristic."""
ADOPTING = ".adopting-"
"""Before the name of a plain folder while it is imported; one that a crash left is imported by the next call."""


class FolderHub(FolderMetadata):
    """`ModelHub` under a directory. Safe for several processes on one machine; not for network file systems."""

    def import_model(
        self, path: Path, repo_id: str, *, tag: str | None = None, private: bool = False, gated: bool = False
    ) -> str:
        """Add a local model folder as the next commit of a repository and return the commit.

        Every visible file is copied. The same content again changes nothing and returns the same commit.
        """
        repository = self.repository(repo_id)
        with _turn(repository):
            head = _create(repository, RepositorySettings(private=private, gated=gated))
            commit = _commit(repository, artifact_files(path), head, message="Import model", description="")
            if tag is not None:
                _write_atomically(repository.ref("tags", tag), f"{commit}\n")
        return commit

    def remove(self, repo_id: str) -> None:
        """Delete a repository with all its commits. Raises ModelNotFoundError."""
        repository = self.existing(repo_id)
        with _turn(repository):
            # Without its settings it does not exist any more, so a crash in the middle leaves no half of it.
            repository.settings_file.unlink()
            shutil.rmtree(repository.path, ignore_errors=True)

    def adopt(self, *, now: float) -> tuple[str, ...]:
        """Import plain model folders that somebody has put at `ORG/NAME`, and return their ids.

        A folder is left alone until nothing in it has changed for `QUIET_SECONDS`: it may still be copied.
        """
        adopted = []
        with _lock(self.root):
            for path in [config.parent for config in sorted(self.root.glob("*/*/config.json"))]:
                if _is_plain(path) and now - _changed_at(path) >= QUIET_SECONDS:
                    path.rename(path.with_name(f"{ADOPTING}{path.name}"))
            for path in sorted(self.root.glob(f"*/{ADOPTING}*")):
                repo_id = f"{path.parent.name}/{path.name.removeprefix(ADOPTING)}"
                self.import_model(path, repo_id)
                shutil.rmtree(path)
                adopted.append(repo_id)
        return tuple(adopted)

    def download(
        self,
        model: ResolvedModel,
        directory: Path,
        *,
        whole: bool = False,
        token: str | None = None,
        on_progress: OnBytes | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Path:
        """Copy the allowed files of a commit, checking each. See `ModelHub`."""
        files = wanted_files(model, whole=whole)
        total = sum(file.size_bytes for file in files)
        snapshot = self.existing(model.model_id).snapshot(model.sha)
        directory.mkdir(parents=True, exist_ok=True)
        finished = 0
        for file in files:
            target = directory / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (target.is_file() and sha256_of(target) == file.sha256):
                _fetch(snapshot / file.path, target, file, should_stop)
            finished += file.size_bytes
            if on_progress is not None:
                on_progress(finished, total)
        discard_unlisted(directory, {file.path for file in files})
        return directory

    def head(
        self,
        repo_id: str,
        *,
        token: str | None = None,
    ) -> PublishedCommit | None:
        """Return the newest commit of the main branch, or None when there is no such repository."""
        repository = self.repository(repo_id)
        commit_id = repository.find(MAIN) if repository.exists else None
        return None if commit_id is None else _published(repository, repo_id, commit_id)

    def prepare(
        self,
        repo_id: str,
        *,
        private: bool | None,
        token: str | None,
        source: ResolvedModel,
        holding: Holding = "compression",
    ) -> str:
        """Make sure that a result may be published, create the repository if need be, and return its head."""
        repository = self.repository(repo_id)
        # Before taking a turn creates anything.
        check_destination(self.destination(repo_id), source, private=private, holding=holding)
        with _turn(repository):
            is_private = check_destination(self.destination(repo_id), source, private=private, holding=holding)
            return _create(repository, RepositorySettings(private=is_private)) or ""

    def publish(
        self,
        repo_id: str,
        directory: Path,
        *,
        parent_sha: str,
        message: str,
        description: str,
        token: str | None,
    ) -> PublishedCommit:
        """Copy the files of a directory into one commit and move the head to it. See `ModelHub`."""
        repository = self.existing(repo_id)
        with _turn(repository):
            head = repository.find(MAIN)
            if head is not None and head != parent_sha and repository.commit(head).description == description:
                return _published(repository, repo_id, head)
            commit = _commit(
                repository, artifact_files(directory), parent_sha, message=message, description=description
            )
        return _published(repository, repo_id, commit)


def _is_plain(path: Path) -> bool:
    try:
        check_repo_id(f"{path.parent.name}/{path.name}")
    except InvalidRepoIdError:
        return False
    return not FolderRepository(path).exists


def _changed_at(path: Path) -> float:
    return max(entry.stat().st_mtime for entry in (path, *path.rglob("*")))


def _published(repository: FolderRepository, repo_id: str, commit_id: str) -> PublishedCommit:
    url = repository.snapshot(commit_id).resolve().as_uri()
    return PublishedCommit(repo_id, commit_id, url, repository.commit(commit_id).description)


@contextmanager
def _turn(repository: FolderRepository) -> Iterator[None]:
    with _lock(repository.path):
        # We hold the lock, so whatever lies there before us was left by a process that died.
        shutil.rmtree(repository.path / "incoming", ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(repository.path / "incoming", ignore_errors=True)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _create(repository: FolderRepository, settings: RepositorySettings) -> str | None:
    """Create the repository with an empty first commit unless it exists; return its head."""
    if not repository.exists:
        _write_atomically(repository.settings_file, settings.model_dump_json())
    if repository.find(MAIN) is None:
        _commit(repository, {}, None, message="Create repository", description="")
    return repository.find(MAIN)


def _commit(
    repository: FolderRepository, files: Mapping[str, Path], parent: str | None, *, message: str, description: str
) -> str:
    """Store files as a commit on top of `parent` and move main to it. The order of steps is what makes it atomic."""
    head = repository.find(MAIN)
    if head != parent:
        raise StaleParentError(f"{repository.path.name} was changed by somebody else meanwhile; try again.")
    staged = repository.path / "incoming" / uuid.uuid4().hex
    staged.mkdir(parents=True)
    listed = {path: _copy_in(source, staged / path) for path, source in files.items()}
    if head is not None and repository.commit(head).files == listed:
        return head
    commit = FolderCommit(
        parent=parent, message=message, description=description, created_at=datetime.now(UTC), files=listed
    )
    snapshot = repository.snapshot(commit.id)
    if not snapshot.exists():
        snapshot.parent.mkdir(exist_ok=True)
        staged.rename(snapshot)
        _sync(snapshot.parent)
    _write_atomically(repository.document(commit.id), commit.model_dump_json(indent=2))
    _write_atomically(repository.ref("heads", MAIN), f"{commit.id}\n")
    return commit.id


def _copy_in(source: Path, target: Path) -> CommittedFile:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    target.chmod(0o444)
    return CommittedFile(size_bytes=size, sha256=digest.hexdigest())


def _fetch(source: Path, target: Path, file: RepoFile, should_stop: ShouldStop | None) -> None:
    digest = hashlib.sha256()
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, partial.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            if should_stop is not None and should_stop():
                raise StopRequested("The download was stopped; finished files are kept.")
            digest.update(chunk)
            writer.write(chunk)
    if digest.hexdigest() != file.sha256:
        partial.unlink()
        raise DownloadCorruptedError(f"{file.path} does not have the listed SHA-256; the folder hub is damaged.")
    partial.replace(target)


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("w") as writer:
        writer.write(text)
        writer.flush()
        os.fsync(writer.fileno())
    temporary.replace(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
