"""Everything a test Hub knows, apart from HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.hub_server.failures import FailurePlan
from tests.hub_server.messages import HubHTTPError, Request
from tests.hub_server.repositories import Commit, Repository, StoredFile, User, is_large
from tests.hub_server.webhooks import Webhooks
from tests.hub_server.xet import XetStore


@dataclass
class HubState:
    """Users by token, repositories by id, large files by SHA-256."""

    users: dict[str, User] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    failures: FailurePlan = field(default_factory=FailurePlan)
    webhooks: Webhooks = field(default_factory=Webhooks)
    requests: list[Request] = field(default_factory=list)
    xet: XetStore | None = None

    def user(self, request: Request) -> User | None:
        return next((user for user in self.users.values() if user.name == request.user), None)

    def visible(self, repo_id: str, request: Request) -> Repository:
        """Return a repository the caller may know of; a hidden one is as absent as a missing one."""
        repository = self.repositories.get(repo_id)
        if repository is None or not repository.may_see(self.user(request)):
            raise HubHTTPError(404 if request.user else 401, "RepoNotFound", "Repository not found")
        if repository.disabled:
            raise HubHTTPError(403, "", "Access to this resource is disabled.")
        return repository

    def readable(self, repo_id: str, request: Request) -> Repository:
        repository = self.visible(repo_id, request)
        if not repository.may_read(self.user(request)):
            raise HubHTTPError(403, "GatedRepo", f"Access to model {repo_id} is restricted.")
        return repository

    def writable(self, repo_id: str, request: Request) -> Repository:
        repository = self.visible(repo_id, request)
        if not repository.may_write(self.user(request)):
            raise HubHTTPError(403, "", "You don't have the required permissions to perform this operation")
        return repository

    def store(self, path: str, content: bytes) -> StoredFile:
        if not is_large(path):
            return StoredFile.small(content)
        digest = sha256(content).hexdigest()
        self.blobs[digest] = content
        return StoredFile.large(digest, len(content))

    def content(self, file: StoredFile) -> bytes | None:
        """Return the bytes of a file, or None when they lie in the Xet store."""
        return file.content if file.content is not None else self.blobs.get(file.sha256 or "")

    def push(self, repo_id: str, files: Mapping[str, bytes | Path], *, message: str, branch: str = "main") -> Commit:
        """Commit as somebody with a clone would, and tell the webhooks."""
        repository = self.repositories[repo_id]
        known = repository.branches.get(branch) or repository.branches.get("main")
        before = dict(repository.commits[known].files) if known else {}
        added = {p: self.store(p, c.read_bytes() if isinstance(c, Path) else c) for p, c in files.items()}
        old = repository.branches.get(branch)
        commit = repository.commit({**before, **added}, title=message, branch=branch)
        self.webhooks.content_changed(repository, f"refs/heads/{branch}", old, commit.oid)
        return commit
