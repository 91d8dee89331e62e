"""What was released where, and when: what a poller reads to find the releases no webhook told it of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Protocol

import structlog

from service.hub.client import HubClient
from service.hub.errors import HubUnavailableError
from service.hub.folder import MAIN, FolderMetadata, FolderRepository, not_in_folder
from service.hub.translation import Subject
from service.platform.text import is_text

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ListedModel:
    """One model in the listing of its owner."""

    model_id: str
    changed_at: datetime
    private: bool = False
    gated: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelRefs:
    """Where the branches and tags of a model point to, by short name. Pull requests are left out."""

    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ListedCommit:
    """One commit in the history of a branch."""

    sha: str
    title: str
    description: str
    created_at: datetime


class HubReleases(Protocol):
    """The listings of a hub. Every call raises HubError only."""

    def seen_by(self, may_see: Callable[[str], bool]) -> "HubReleases":
        """Return the listings without private models that somebody may not see, where no token says so."""

    def models(self, owner: str, *, token: str | None = None, limit: int = 100) -> Sequence[ListedModel]:
        """Return the models of a user or organization, latest change first; an unknown owner has none."""

    def refs(self, model_id: str, *, token: str | None = None) -> ModelRefs:
        """Return branches and tags. Raises ModelNotFoundError."""

    def commits(
        self, model_id: str, revision: str = MAIN, *, token: str | None = None, limit: int = 50
    ) -> Sequence[ListedCommit]:
        """Return the history of a revision, newest first. Raises ModelNotFoundError, RevisionNotFoundError."""


class HuggingFaceReleases:
    """`HubReleases` over the Hub's HTTP interface."""

    def __init__(self, client: HubClient) -> None:
        self._client = client

    def seen_by(self, may_see: Callable[[str], bool]) -> HubReleases:
        """Return this: the token of each call says what is seen."""
        return self

    def models(self, owner: str, *, token: str | None = None, limit: int = 100) -> Sequence[ListedModel]:
        """Return the models of a user or organization, latest change first."""
        api = self._client.api
        found = self._client.ask(
            lambda: list(api.list_models(author=owner, sort="last_modified", limit=limit, token=token or False)),
            Subject(owner),
        )
        return [
            ListedModel(
                model_id=model.id,
                changed_at=model.last_modified,
                private=bool(model.private),
                gated=bool(model.gated),
                tags=tuple(model.tags or ()),
            )
            for model in found
            if model.last_modified is not None
        ]

    def refs(self, model_id: str, *, token: str | None = None) -> ModelRefs:
        """Return branches and tags."""
        api = self._client.api
        found = self._client.ask(lambda: api.list_repo_refs(model_id, token=token or False), Subject(model_id))
        return ModelRefs(
            branches={branch.name: branch.target_commit for branch in found.branches if is_text(branch.name)},
            tags={tag.name: tag.target_commit for tag in found.tags if is_text(tag.name)},
        )

    def commits(
        self, model_id: str, revision: str = MAIN, *, token: str | None = None, limit: int = 50
    ) -> Sequence[ListedCommit]:
        """Return the history of a revision, newest first."""
        api = self._client.api
        found = self._client.ask(
            lambda: api.list_repo_commits(model_id, revision=revision, token=token or False),
            Subject(model_id, revision),
        )
        return [
            ListedCommit(commit.commit_id, commit.title, commit.message, commit.created_at) for commit in found[:limit]
        ]


class FolderReleases:
    """`HubReleases` over a directory tree."""

    def __init__(self, hub: FolderMetadata, *, may_see: Callable[[str], bool] = lambda _: True) -> None:
        """List a folder; of its private models, those that `may_see` allows."""
        self._hub = hub
        self._may_see = may_see

    def seen_by(self, may_see: Callable[[str], bool]) -> HubReleases:
        """Return the listings without private models that somebody may not see."""
        return self.seeing(may_see)

    def seeing(self, may_see: Callable[[str], bool]) -> "FolderReleases":
        """Return the same, as what it is."""
        return FolderReleases(self._hub, may_see=may_see)

    def has(self, model_id: str) -> bool:
        """Whether the folder has a model, whoever may see it."""
        return self._hub.repository(model_id).exists

    def _existing(self, model_id: str) -> FolderRepository:
        repository = self._hub.existing(model_id)
        if repository.settings().private and not self._may_see(model_id):
            raise not_in_folder(model_id)
        return repository

    def models(
        self,
        owner: str,
        *,
        token: str | None = None,
        limit: int = 100,
    ) -> Sequence[ListedModel]:
        """Return the models of an owner, latest change first."""
        listed = [self._listed(repo_id) for repo_id in self._hub.repository_ids() if repo_id.startswith(f"{owner}/")]
        found = [model for model in listed if not model.private or self._may_see(model.model_id)]
        return sorted(found, key=lambda model: model.changed_at, reverse=True)[:limit]

    def _listed(self, repo_id: str) -> ListedModel:
        repository = self._hub.existing(repo_id)
        settings, model = repository.settings(), self._hub.resolve(repo_id)
        changed_at = repository.commit(model.sha).created_at
        return ListedModel(repo_id, changed_at, private=settings.private, gated=settings.gated, tags=model.tags)

    def refs(
        self,
        model_id: str,
        *,
        token: str | None = None,
    ) -> ModelRefs:
        """Return branches and tags."""
        repository = self._existing(model_id)
        return ModelRefs(branches=repository.refs("heads"), tags=repository.refs("tags"))

    def commits(
        self, model_id: str, revision: str = MAIN, *, token: str | None = None, limit: int = 50
    ) -> Sequence[ListedCommit]:
        """Return the history of a revision, newest first."""
        repository = self._existing(model_id)
        newest = self._hub.resolve(model_id, revision, token=token).sha
        return [
            ListedCommit(sha, commit.message, commit.description, commit.created_at)
            for sha, commit in islice(repository.history(newest), limit)
        ]


class BothReleases:
    """`HubReleases` of the operator's folder and of the Hub behind it, which may be out of reach."""

    def __init__(self, folder: FolderReleases, remote: HubReleases) -> None:
        self._folder = folder
        self._remote = remote

    def seen_by(self, may_see: Callable[[str], bool]) -> HubReleases:
        """Return the listings without private models that somebody may not see."""
        return BothReleases(self._folder.seeing(may_see), self._remote.seen_by(may_see))

    def models(self, owner: str, *, token: str | None = None, limit: int = 100) -> Sequence[ListedModel]:
        """Return the models of an owner, latest change first; without the Hub's where only the folder answers."""
        local = self._folder.models(owner, limit=limit)
        try:
            remote = self._remote.models(owner, token=token, limit=limit)
        except HubUnavailableError as error:
            if not local:
                raise
            _log.warning("hub_not_listed", owner=owner, reason=str(error))
            return local
        found = [*local, *(model for model in remote if not self._folder.has(model.model_id))]
        return sorted(found, key=lambda model: model.changed_at, reverse=True)[:limit]

    def refs(self, model_id: str, *, token: str | None = None) -> ModelRefs:
        """Return branches and tags."""
        return self._of(model_id).refs(model_id, token=token)

    def commits(
        self, model_id: str, revision: str = MAIN, *, token: str | None = None, limit: int = 50
    ) -> Sequence[ListedCommit]:
        """Return the history of a revision, newest first."""
        return self._of(model_id).commits(model_id, revision, token=token, limit=limit)

    def _of(self, model_id: str) -> HubReleases:
        return self._folder if self._folder.has(model_id) else self._remote
