"""What a hub holds: users, repositories, commits, and the bytes of large files."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tests.hub_server.messages import HubHTTPError

LARGE_SUFFIXES = (".safetensors", ".bin", ".pt", ".model")


@dataclass(frozen=True)
class User:
    """The owner of a token."""

    name: str
    organizations: tuple[str, ...] = ()
    role: str = "write"


@dataclass(frozen=True)
class StoredFile:
    """One file of a commit: a small one holds its bytes, a large one points to them."""

    size: int
    git_oid: str
    content: bytes | None = None
    sha256: str | None = None

    @classmethod
    def small(cls, content: bytes) -> "StoredFile":
        return cls(len(content), git_oid(content), content=content)

    @classmethod
    def large(cls, sha256: str, size: int) -> "StoredFile":
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return cls(size, git_oid(pointer.encode()), sha256=sha256)


@dataclass(frozen=True)
class Commit:
    """A snapshot with its message."""

    oid: str
    parent: str | None
    files: Mapping[str, StoredFile]
    title: str
    description: str
    author: str
    date: datetime


@dataclass
class Repository:
    """A model repository and who may do what with it."""

    repo_id: str
    private: bool = False
    gated: bool = False
    disabled: bool = False
    renamed_to: str | None = None
    granted: set[str] = field(default_factory=set)
    """Users who have accepted the terms of a gated repository."""
    unsafe_files: tuple[str, ...] = ()
    """What the malware scan has found."""
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.repo_id.split("/", maxsplit=1)[0]

    @property
    def head(self) -> Commit:
        return self.commits[self.branches["main"]]

    def may_write(self, user: User | None) -> bool:
        return user is not None and user.role == "write" and self.owner in (user.name, *user.organizations)

    def may_see(self, user: User | None) -> bool:
        return not self.private or (user is not None and self.owner in (user.name, *user.organizations))

    def may_read(self, user: User | None) -> bool:
        granted = user is not None and (user.name in self.granted or self.may_write(user))
        return self.may_see(user) and (not self.gated or granted)

    def find(self, revision: str) -> Commit:
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name) or revision
        if oid not in self.commits:
            raise HubHTTPError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def commit(
        self,
        files: Mapping[str, StoredFile],
        *,
        title: str,
        description: str = "",
        author: str = "somebody",
        branch: str = "main",
    ) -> Commit:
        parent = self.branches.get(branch)
        stamp = json.dumps([self.repo_id, parent, title, description, sorted((p, f.git_oid) for p, f in files.items())])
        oid = hashlib.sha1(stamp.encode(), usedforsecurity=False).hexdigest()
        self.commits[oid] = Commit(oid, parent, dict(files), title, description, author, datetime.now(UTC))
        self.branches[branch] = oid
        return self.commits[oid]

    def history(self, revision: str) -> Iterable[Commit]:
        commit: Commit | None = self.find(revision)
        while commit is not None:
            yield commit
            commit = self.commits[commit.parent] if commit.parent else None

    def renamed(self, repo_id: str) -> "Repository":
        return replace(self, repo_id=repo_id)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(LARGE_SUFFIXES)
