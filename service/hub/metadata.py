"""The read side of a hub: the port, and its Hugging Face adapter."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from huggingface_hub import ModelInfo

from service.hub.client import HubClient
from service.hub.destination import MAX_REPORT_BYTES, REPORT_FILE, Destination, report_source
from service.hub.documents import json_object, read_config
from service.hub.errors import AccessDeniedError, DestinationForbiddenError, DisabledModelError, ModelNotFoundError
from service.hub.headers import read_header
from service.hub.model import RepoFile, ResolvedModel
from service.hub.namespaces import Namespaces
from service.hub.naming import check_repo_id
from service.hub.translation import Subject
from service.hub.weights import Header, Weights, read_weights
from service.platform.text import storable, storable_document

_PARALLEL_HEADERS = 8
"""Requests at a time for the headers of a sharded model; the hub's client shares one connection pool."""


class HubMetadata(Protocol):
    """What can be known of a model without downloading a weight. Every call raises HubError only."""

    @property
    def is_local(self) -> bool:
        """Whether it is the operator's own folder: it knows no tokens, and what is in it was put there on purpose."""

    def resolve(self, model_id: str, revision: str = "main", *, token: str | None = None) -> ResolvedModel:
        """Pin a revision to its commit and list what is there.

        Raises:
            InvalidRepoIdError, ModelNotFoundError, RevisionNotFoundError, GatedModelError, DisabledModelError,
            InvalidTokenError, HubUnavailableError: as their names say. A token of None reads anonymously.
        """

    def inspect(self, model: ResolvedModel, *, token: str | None = None) -> Weights:
        """Read the headers of the weights, at most a few hundred kilobytes per file, and no weight.

        Raises:
            InvalidWeightsError: a header is damaged.
        """

    def artifact_source(self, model: ResolvedModel, *, token: str | None = None) -> str | None:
        """Return what a repository of ours was compressed from, or None when it is not one of ours."""

    def destination(self, repo_id: str, *, token: str | None = None) -> Destination:
        """Look at the repository an artifact is to be published to; changes nothing.

        Raises:
            InvalidRepoIdError, DestinationForbiddenError, InvalidTokenError, HubUnavailableError: as their names say.
        """

    def visible_destination(self, repo_id: str) -> Destination:
        """Look at a destination as anybody sees it: whoever will write there brings a token that is not at hand.

        Raises:
            InvalidRepoIdError, HubUnavailableError: as their names say.
        """


class HuggingFaceMetadata:
    """`HubMetadata` over the Hub's HTTP interface."""

    is_local = False

    def __init__(self, client: HubClient) -> None:
        self._client = client
        self._namespaces = Namespaces(client)

    def resolve(self, model_id: str, revision: str = "main", *, token: str | None = None) -> ResolvedModel:
        """Pin a revision to its commit and list what is there. Two requests, three for a gated model."""
        info = self._info(model_id, revision, token)
        if info.id != model_id:
            # A renamed repository answers by a redirect, which loses the wish for file sizes.
            info = self._info(info.id, revision, token)
        if info.disabled:
            raise DisabledModelError(f"{info.id} has been disabled on the hub; choose another model.")
        if info.gated:
            self._client.ask(lambda: self._client.api.auth_check(info.id, token=token or False), Subject(info.id))
        return _resolved(info, self._config(info, token), url=f"{self._client.endpoint}/{info.id}")

    def inspect(self, model: ResolvedModel, *, token: str | None = None) -> Weights:
        """Read the headers of the weights by range requests, several files at a time."""

        def read(file: RepoFile) -> Header:
            def span(begin: int, end: int) -> bytes:
                return self._client.read_span(model.model_id, model.sha, file.path, begin, end, token=token)

            return read_header(span, size_bytes=file.size_bytes)

        with ThreadPoolExecutor(max_workers=_PARALLEL_HEADERS) as pool:
            return read_weights(model, lambda files: pool.map(read, files))

    def artifact_source(self, model: ResolvedModel, *, token: str | None = None) -> str | None:
        """Return what a repository of ours was compressed from, or None when it is not one of ours."""
        paths = tuple(file.path for file in model.files)
        return self._made_from(model.model_id, model.sha, paths, token)

    def _info(self, model_id: str, revision: str, token: str | None) -> ModelInfo:
        def ask() -> ModelInfo:
            return self._client.api.model_info(
                model_id, revision=revision, files_metadata=True, securityStatus=True, token=token or False
            )

        return self._client.ask(ask, Subject(model_id, revision))

    def destination(self, repo_id: str, *, token: str | None = None) -> Destination:
        """Look at the repository an artifact is to be published to; changes nothing."""
        if token is None:
            raise DestinationForbiddenError(f"Publishing to {repo_id} needs a token with write access; give one.")
        subject = Subject(repo_id, writing=True)
        api = self._client.api
        try:
            info = self._client.ask(lambda: api.model_info(repo_id, token=token), subject)
        except ModelNotFoundError:
            self._check_namespace(repo_id, token)
            return Destination(repo_id, writable=True)
        self._client.ask(lambda: api.auth_check(repo_id, token=token, write=True), subject)
        return self._existing(repo_id, info, token, writable=True)

    def visible_destination(self, repo_id: str) -> Destination:
        """Look at a destination as anybody sees it. One request, two when it exists."""
        check_repo_id(repo_id)
        subject = Subject(repo_id)
        try:
            info = self._client.ask(lambda: self._client.api.model_info(repo_id, token=False), subject)
            return self._existing(repo_id, info, None, writable=None)
        except (ModelNotFoundError, AccessDeniedError):
            return Destination(repo_id)

    def _existing(self, repo_id: str, info: ModelInfo, token: str | None, *, writable: bool | None) -> Destination:
        paths = tuple(sibling.rfilename for sibling in info.siblings or ())
        return Destination(
            repo_id=repo_id,
            head=info.sha,
            private=bool(info.private),
            paths=paths,
            made_from=self._made_from(repo_id, info.sha, paths, token),
            writable=writable,
        )

    def _check_namespace(self, repo_id: str, token: str) -> None:
        owner = repo_id.split("/", maxsplit=1)[0]
        mine = self._namespaces.of(token)
        if owner not in mine:
            raise DestinationForbiddenError(
                f"This token may not create {repo_id}: it can write to {', '.join(sorted(mine))}. Choose one of these."
            )

    def _made_from(self, repo_id: str, sha: str | None, paths: tuple[str, ...], token: str | None) -> str | None:
        if sha is None or REPORT_FILE not in paths:
            return None
        content = self._client.read_bytes(repo_id, sha, REPORT_FILE, token=token, limit_bytes=MAX_REPORT_BYTES)
        return report_source(json_object(content))

    def _config(self, info: ModelInfo, token: str | None) -> Mapping[str, Any] | None:
        if info.sha is None or all(sibling.rfilename != "config.json" for sibling in info.siblings or ()):
            return None
        return read_config(self._client.read_bytes(info.id, info.sha, "config.json", token=token), info.id)


def _resolved(info: ModelInfo, config: Mapping[str, Any] | None, *, url: str) -> ResolvedModel:
    card = vars(info.card_data) if info.card_data is not None else {}
    return ResolvedModel(
        model_id=info.id,
        sha=info.sha or "",
        private=bool(info.private),
        gated=bool(info.gated),
        files=tuple(
            RepoFile(
                path=sibling.rfilename,
                size_bytes=sibling.size or 0,
                sha256=sibling.lfs.sha256 if sibling.lfs else None,
                git_sha1=sibling.blob_id,
            )
            for sibling in info.siblings or ()
        ),
        config=config,
        tags=texts(info.tags),
        pipeline_tag=next(iter(texts([info.pipeline_tag])), None),
        url=url,
        flagged=_flagged(info.security_repo_status),
        **card_fields({key: value for key, value in card.items() if value is not None}),
    )


def _flagged(status: Any) -> tuple[str, ...]:
    """Return the paths of unsafe files in a scan report; one of an unknown shape flags nothing."""
    issues = status.get("filesWithIssues") if isinstance(status, dict) else None
    found = (issue for issue in issues if isinstance(issue, dict)) if isinstance(issues, list) else ()
    return tuple(str(issue.get("path")) for issue in found if issue.get("level") == "unsafe")


def card_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `ResolvedModel` that come from a model card's metadata; wrong types count as absent."""

    def text(key: str) -> str | None:
        value = card.get(key)
        return storable(value) if isinstance(value, str) and value else None

    languages = card.get("language")
    return {
        "card": storable_document(dict(card)),
        "license": text("license"),
        "license_name": text("license_name"),
        "license_link": text("license_link"),
        "languages": texts([languages] if isinstance(languages, str) else languages),
    }


def texts(values: object) -> tuple[str, ...]:
    """Return the texts of a list of a stranger's, and nothing else of it: one line of YAML may stand for gigabytes."""
    return tuple(storable(value) for value in values if isinstance(value, str)) if isinstance(values, list) else ()
