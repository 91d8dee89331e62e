"""The read side of a hub: the port, and its Hugging Face adapter."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from huggingface_hub import ModelInfo

from service.hub.client import MAX_JSON_BYTES, HubClient
from service.hub.destination import MAX_REPORT_BYTES, REPORT_FILE, Destination, report_file, report_source
from service.hub.documents import json_object, json_value, read_config
from service.hub.errors import AccessDeniedError, DestinationForbiddenError, DisabledModelError, ModelNotFoundError
from service.hub.headers import read_header
from service.hub.model import CONFIG_FILE, RepoFile, ResolvedModel, index_file
from service.hub.namespaces import Namespaces
from service.hub.naming import check_repo_id
from service.hub.translation import Subject
from service.hub.weights import Weights, read_weights
from service.platform.text import storable, storable_document
from srr_core.checkpoint.carried_files import MODULES_FILE
from srr_core.checkpoint.header_text import HeaderEntry

MAX_INDEX_BYTES = 50_000_000
"""The index of the largest mixtures, whose experts are a tensor each, has about 20 MB."""
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

    def artifact_report(self, model: ResolvedModel, *, token: str | None = None) -> Mapping[str, Any] | None:
        """Return the report of the compression in a repository, or None where there is none that is an object."""

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
        """Pin a revision to its commit and list what is there.

        Two requests, and one more each for a gated model, an index of weights and a list of modules.
        """
        info = self._info(model_id, revision, token)
        if info.id != model_id:
            # A renamed repository answers by a redirect, which loses the wish for file sizes.
            info = self._info(info.id, revision, token)
        if info.disabled:
            raise DisabledModelError(f"{info.id} has been disabled on the hub; choose another model.")
        if info.gated:
            self._client.ask(lambda: self._client.api.auth_check(info.id, token=token or False), Subject(info.id))
        return self._resolved(info, token)

    def inspect(self, model: ResolvedModel, *, token: str | None = None) -> Weights:
        """Read the headers of the weights by range requests, several files at a time."""

        def read(file: RepoFile) -> Mapping[str, HeaderEntry]:
            return read_header(
                file,
                lambda begin, end: self._client.read_span(
                    model.model_id, model.sha, file.path, begin, end, token=token
                ),
            )

        with ThreadPoolExecutor(max_workers=_PARALLEL_HEADERS) as pool:
            return read_weights(model, lambda files: pool.map(read, files))

    def artifact_source(self, model: ResolvedModel, *, token: str | None = None) -> str | None:
        """Return what a repository of ours was compressed from, or None when it is not one of ours."""
        paths = tuple(file.path for file in model.files)
        return self._made_from(model.model_id, model.sha, paths, token)

    def artifact_report(self, model: ResolvedModel, *, token: str | None = None) -> Mapping[str, Any] | None:
        """Return the report of the compression in a repository. One request."""
        if all(file.path != REPORT_FILE for file in model.files):
            return None
        content = self._client.read_bytes(
            model.model_id, model.sha, REPORT_FILE, token=token, limit_bytes=MAX_REPORT_BYTES
        )
        return json_object(content)

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
        name = report_file(paths)
        if sha is None or name is None:
            return None
        content = self._client.read_bytes(repo_id, sha, name, token=token, limit_bytes=MAX_REPORT_BYTES)
        return report_source(json_object(content))

    def _resolved(self, info: ModelInfo, token: str | None) -> ResolvedModel:
        paths = frozenset(sibling.rfilename for sibling in info.siblings or ())
        config = self._json_of(info, paths, CONFIG_FILE, token)
        known = config if isinstance(config, dict) else None
        index = self._json_of(info, paths, index_file(paths, known), token, limit_bytes=MAX_INDEX_BYTES)
        return _resolved(
            info,
            known,
            index=index if isinstance(index, dict) else None,
            modules=self._json_of(info, paths, MODULES_FILE, token),
            url=f"{self._client.endpoint}/{info.id}",
        )

    def _json_of(
        self,
        info: ModelInfo,
        paths: frozenset[str],
        path: str | None,
        token: str | None,
        *,
        limit_bytes: int = MAX_JSON_BYTES,
    ) -> Any:
        if info.sha is None or path is None or path not in paths:
            return None
        content = self._client.read_bytes(info.id, info.sha, path, token=token, limit_bytes=limit_bytes)
        return read_config(content, info.id) if path == CONFIG_FILE else json_value(content)


def _resolved(
    info: ModelInfo, config: Mapping[str, Any] | None, *, index: Mapping[str, Any] | None, modules: Any, url: str
) -> ResolvedModel:
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
        index=index,
        modules=modules,
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
