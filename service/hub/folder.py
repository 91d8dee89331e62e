"""The read side of a directory tree that behaves like a hub.

    root/owner/name/
        repository.json         {"private": bool, "gated": bool}
        refs/heads/main         the head: one commit id
        refs/tags/...           more names for commits
        commits/<id>.json       FolderCommit; its id is the SHA-1 of what it says
        snapshots/<id>/...      the files of the commit, read-only, ready for from_pretrained
        incoming/               a commit being made; garbage whenever the repository's lock is free

A commit exists once its document does, and counts once a ref names it. Nothing that exists is ever changed.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub.repocard import metadata_load
from pydantic import BaseModel, ConfigDict
from yaml import YAMLError

from service.hub.destination import REPORT_FILE, Destination, report_file, report_source
from service.hub.documents import json_object, json_value, read_config
from service.hub.errors import ModelNotFoundError, RevisionNotFoundError
from service.hub.headers import Fetch, read_header
from service.hub.metadata import card_fields, texts
from service.hub.model import CARD_FILE, CONFIG_FILE, RepoFile, ResolvedModel, index_file
from service.hub.naming import check_repo_id
from service.hub.weights import Weights, read_weights
from srr_core.checkpoint.carried_files import MODULES_FILE

MAIN = "main"
MAX_CARD_BYTES = 1_000_000
"""The Hub's own longest cards are a tenth of it."""
_COMMIT_ID = re.compile(r"[0-9a-f]{40}")


class CommittedFile(BaseModel):
    """Size and hash of one file of a commit."""

    model_config = ConfigDict(frozen=True)

    size_bytes: int
    sha256: str


class FolderCommit(BaseModel):
    """One commit of a repository; its id follows from its content."""

    model_config = ConfigDict(frozen=True)

    parent: str | None
    message: str
    description: str
    created_at: datetime
    files: dict[str, CommittedFile]

    @property
    def id(self) -> str:
        """40 hexadecimal digits, as git would have; the date does not count, so a repeated commit is the same."""
        said = json.dumps(self.model_dump(mode="json", exclude={"created_at"}), sort_keys=True)
        return hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()


class RepositorySettings(BaseModel):
    """What is said of a repository rather than of a commit."""

    model_config = ConfigDict(frozen=True)

    private: bool = False
    gated: bool = False


@dataclass(frozen=True)
class FolderRepository:
    """The paths of one repository. Building one touches no disk."""

    path: Path

    def snapshot(self, commit_id: str) -> Path:
        """The directory that holds the files of a commit."""
        return self.path / "snapshots" / commit_id

    def document(self, commit_id: str) -> Path:
        """The file that describes a commit."""
        return self.path / "commits" / f"{commit_id}.json"

    def ref(self, kind: str, name: str) -> Path:
        """The file that holds the commit of a branch (`heads`) or tag (`tags`)."""
        return self.path / "refs" / kind / name

    @property
    def settings_file(self) -> Path:
        """The file that holds RepositorySettings."""
        return self.path / "repository.json"

    @property
    def exists(self) -> bool:
        """Whether the repository has been created."""
        return self.settings_file.is_file()

    def settings(self) -> RepositorySettings:
        """Read the settings."""
        return RepositorySettings.model_validate_json(self.settings_file.read_bytes())

    def commit(self, commit_id: str) -> FolderCommit:
        """Read a commit."""
        return FolderCommit.model_validate_json(self.document(commit_id).read_bytes())

    def history(self, commit_id: str) -> Iterator[tuple[str, FolderCommit]]:
        """Yield a commit and its ancestors with their ids, newest first."""
        current: str | None = commit_id
        while current is not None:
            commit = self.commit(current)
            yield current, commit
            current = commit.parent

    def find(self, revision: str) -> str | None:
        """Return the commit of a branch, tag or commit id, or None."""
        parts = PurePosixPath(revision).parts
        if not parts or revision.startswith("/") or ".." in parts or "\x00" in revision:
            return None
        for kind in ("heads", "tags"):
            ref = self.ref(kind, revision)
            if ref.is_file():
                return ref.read_text().strip()
        known = _COMMIT_ID.fullmatch(revision) and self.document(revision).is_file()
        return revision if known else None

    def refs(self, kind: str) -> Mapping[str, str]:
        """Return the commit of every branch (`heads`) or tag (`tags`)."""
        root = self.path / "refs" / kind
        found = (path for path in sorted(root.rglob("*")) if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_text().strip() for path in found}


class FolderMetadata:
    """`HubMetadata` over a directory tree. Tokens are ignored: whoever may read the directory may read it all."""

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def resolve(
        self,
        model_id: str,
        revision: str = MAIN,
        *,
        token: str | None = None,
    ) -> ResolvedModel:
        """Pin a revision to its commit and list what is there."""
        repository = self.existing(model_id)
        commit_id = repository.find(revision)
        if commit_id is None:
            raise RevisionNotFoundError(
                f"{model_id} has no revision {revision!r}; name a branch, a tag or a full commit sha."
            )
        settings, snapshot = repository.settings(), repository.snapshot(commit_id)
        card, config = read_card(snapshot / CARD_FILE), _config(snapshot / CONFIG_FILE, model_id)
        files = repository.commit(commit_id).files
        index = index_file(files, config)
        return ResolvedModel(
            model_id=model_id,
            sha=commit_id,
            private=settings.private,
            gated=settings.gated,
            files=tuple(RepoFile(path, file.size_bytes, sha256=file.sha256) for path, file in sorted(files.items())),
            config=config,
            index=_json_object(snapshot / index) if index is not None else None,
            modules=_json(snapshot / MODULES_FILE),
            tags=texts(card.get("tags")),
            pipeline_tag=next(iter(texts([card.get("pipeline_tag")])), None),
            **card_fields(card),
        )

    def inspect(
        self,
        model: ResolvedModel,
        *,
        token: str | None = None,
    ) -> Weights:
        """Read the headers of the weights."""
        snapshot = self.existing(model.model_id).snapshot(model.sha)
        return read_weights(model, lambda files: (read_header(file, _part_of(snapshot / file.path)) for file in files))

    def artifact_source(
        self,
        model: ResolvedModel,
        *,
        token: str | None = None,
    ) -> str | None:
        """Return what a repository of ours was compressed from, or None when it is not one of ours."""
        name = report_file(file.path for file in model.files)
        snapshot = self.existing(model.model_id).snapshot(model.sha)
        return None if name is None else report_source(_json_object(snapshot / name))

    def artifact_report(self, model: ResolvedModel, *, token: str | None = None) -> Mapping[str, Any] | None:
        """Return the report of the compression in a repository."""
        if all(file.path != REPORT_FILE for file in model.files):
            return None
        return _json_object(self.existing(model.model_id).snapshot(model.sha) / REPORT_FILE)

    def destination(
        self,
        repo_id: str,
        *,
        token: str | None = None,
    ) -> Destination:
        """Look at the repository an artifact is to be published to; changes nothing."""
        repository = self.repository(repo_id)
        head = repository.find(MAIN) if repository.exists else None
        if head is None:
            return Destination(repo_id, writable=True)
        paths = tuple(repository.commit(head).files)
        name = report_file(paths)
        return Destination(
            repo_id=repo_id,
            head=head,
            private=repository.settings().private,
            paths=paths,
            made_from=None if name is None else report_source(_json_object(repository.snapshot(head) / name)),
            writable=True,
        )

    def visible_destination(self, repo_id: str) -> Destination:
        """Look at a destination without a token; a folder knows none."""
        return self.destination(repo_id)

    def repository(self, repo_id: str) -> FolderRepository:
        """Return the place of a repository, existing or not. Raises InvalidRepoIdError, and never leaves the root."""
        check_repo_id(repo_id)
        return FolderRepository(self.root / repo_id)

    def existing(self, repo_id: str) -> FolderRepository:
        """Return the place of a repository that exists. Raises ModelNotFoundError."""
        repository = self.repository(repo_id)
        if not repository.exists or not repository.refs("heads"):
            raise not_in_folder(repo_id)
        return repository

    def repository_ids(self) -> Iterator[str]:
        """Yield every repository id, in alphabetical order."""
        for settings in sorted(self.root.glob("*/*/repository.json")):
            yield settings.parent.relative_to(self.root).as_posix()


def visible(model: ResolvedModel, *, is_local: bool, may_see: Callable[[str], bool]) -> ResolvedModel:
    """Return a model unless it is private in the folder hub, which knows no tokens, and somebody else's.

    Raises:
        ModelNotFoundError: it is; whoever asks cannot tell it from one that does not exist.
    """
    if is_local and model.private and not may_see(model.model_id):
        raise not_in_folder(model.model_id)
    return model


def not_in_folder(repo_id: str) -> ModelNotFoundError:
    """Return the refusal of a model that is not there, or that is somebody else's: one cannot tell which.

    Nothing is said of what does exist: its names may be another caller's secret.
    """
    return ModelNotFoundError(f"{repo_id} does not exist in the folder hub; check the id, or import the model.")


def _part_of(path: Path) -> Fetch:
    def fetch(begin: int, end: int) -> bytes:
        with path.open("rb") as stream:
            stream.seek(begin)
            return stream.read(end - begin)

    return fetch


def _config(path: Path, model_id: str) -> Mapping[str, Any] | None:
    return read_config(path.read_bytes(), model_id) if path.is_file() else None


def _json(path: Path) -> Any:
    return json_value(path.read_bytes()) if path.is_file() else None


def _json_object(path: Path) -> Mapping[str, Any] | None:
    return json_object(path.read_bytes()) if path.is_file() else None


def read_card(path: Path) -> Mapping[str, Any]:
    """Return the metadata of a model card; empty where there is none, or none that can be read."""
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            return {}
        return metadata_load(path) or {}
    except (FileNotFoundError, ValueError, YAMLError, RecursionError):
        return {}
