"""Where models come from and artifacts go to: the `ModelHub` port and its Hugging Face adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, hf_hub_download

from service.hub.client import DEFAULT_ENDPOINT, HubClient, Timeouts
from service.hub.destination import Holding, check_destination
from service.hub.errors import (
    DestinationForbiddenError,
    DownloadCorruptedError,
    HubUnavailableError,
    ModelNotFoundError,
    StaleParentError,
)
from service.hub.metadata import HubMetadata, HuggingFaceMetadata
from service.hub.model import RepoFile, ResolvedModel, check_compressible, check_readable
from service.hub.translation import Subject
from worker.download_meter import DownloadMeter, OnBytes, ShouldStop
from worker.eval_results import FOLDER as EVAL_RESULTS
from worker.integrity import discard_unlisted, verify_file

__all__ = [
    "HuggingFaceHub",
    "ModelHub",
    "OnBytes",
    "PublishedCommit",
    "ResolvedModel",
    "ShouldStop",
    "artifact_files",
    "wanted_files",
]

_KEPT_FILES = frozenset({".gitattributes"})
"""Files of a repository that a publication leaves alone."""
_COMMIT_ATTEMPTS = 3
_Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete


@dataclass(frozen=True)
class PublishedCommit:
    """A commit on the main branch of a published repository."""

    repo_id: str
    sha: str
    url: str
    description: str = ""


class ModelHub(HubMetadata, Protocol):
    """A hub to download from and publish to.

    Every call raises `HubError` or StopRequested only; what goes wrong on this machine's disk stays an OSError.
    """

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
        """Fetch the allowed files of a commit into a directory, check size and hash of each, and return it.

        Files that are there already and match are kept, so a second call resumes. Nothing else stays in it.

        Args:
            whole: For a model that is taken as it is: its adapter and its head too. What licence it has is then no
                matter here; whoever publishes something made of it looks at that.
        Raises:
            NoSafetensorsError, RemoteCodeError, LicenseError: before anything is fetched.
            DownloadCorruptedError: a file differs from what the hub lists; it has been removed.
            StopRequested: `should_stop` said so; finished files are kept.
        """

    def head(self, repo_id: str, *, token: str | None = None) -> PublishedCommit | None:
        """Return the newest commit of the main branch, or None when there is no such repository."""

    def prepare(
        self,
        repo_id: str,
        *,
        private: bool | None,
        token: str | None,
        source: ResolvedModel,
        holding: Holding = "compression",
    ) -> str:
        """Make sure that a result may be published, create the repository if need be, and return its head.

        Raises:
            DestinationConflictError, DestinationForbiddenError, PublicationRefusedError: as their names say.
        """

    def publish(
        self, repo_id: str, directory: Path, *, parent_sha: str, message: str, description: str, token: str | None
    ) -> PublishedCommit:
        """Make the main branch hold exactly the files of a directory, in one commit or not at all.

        Args:
            description: Unique for the job. A commit that carries it and is the head counts as this one, so a
                call whose answer was lost may be repeated.

        Raises:
            StaleParentError: the head is neither `parent_sha` nor a commit with this description.
        """


class HuggingFaceHub(HuggingFaceMetadata):
    """`ModelHub` over the Hugging Face Hub, or any server that speaks its protocol."""

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        timeouts: Timeouts | None = None,
        client: HubClient | None = None,
    ) -> None:
        super().__init__(client or HubClient(endpoint, timeouts=timeouts))

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
        """Fetch the allowed files of a commit, one after the other, and check each. See `ModelHub`."""
        files = wanted_files(model, whole=whole)
        directory.mkdir(parents=True, exist_ok=True)
        meter = DownloadMeter(sum(file.size_bytes for file in files), on_progress, should_stop)
        for file in files:
            try:
                self._fetch(model, file, directory, token, meter)
            except DownloadCorruptedError:
                # One file again costs less than an attempt of the whole job; twice in a row is no accident.
                self._fetch(model, file, directory, token, meter)
            meter.finish(file)
            meter.check()
        discard_unlisted(directory, {file.path for file in files})
        return directory

    def _fetch(
        self, model: ResolvedModel, file: RepoFile, directory: Path, token: str | None, meter: DownloadMeter
    ) -> None:
        def fetch() -> None:
            meter.check()
            try:
                hf_hub_download(
                    model.model_id,
                    file.path,
                    revision=model.sha,
                    local_dir=directory,
                    token=token or False,
                    endpoint=self._client.endpoint,
                    tqdm_class=meter.bar,
                )
            except Exception:
                meter.check()  # called off by us, whatever the client makes of it
                raise

        meter.begin()
        self._client.ask(fetch, Subject(model.model_id, model.sha))
        verify_file(directory, file, model_id=model.model_id)

    def head(self, repo_id: str, *, token: str | None = None) -> PublishedCommit | None:
        """Return the newest commit of the main branch, or None when there is no such repository."""
        api, subject = self._client.api, Subject(repo_id, "main")
        try:
            commits = self._client.ask(lambda: api.list_repo_commits(repo_id, token=token or False), subject)
        except ModelNotFoundError:
            return None
        newest = commits[0]
        return PublishedCommit(repo_id, newest.commit_id, self._commit_url(repo_id, newest.commit_id), newest.message)

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
        destination = self.destination(repo_id, token=token)
        is_private = check_destination(destination, source, private=private, holding=holding)
        if destination.head is not None:
            return destination.head
        subject = Subject(repo_id, writing=True)
        api = self._client.api
        # exist_ok: an answer lost on the first try must not make the second one a conflict.
        self._client.ask(lambda: api.create_repo(repo_id, private=is_private, exist_ok=True, token=token), subject)
        created = self.destination(repo_id, token=token)
        if created.head is None:
            raise DestinationForbiddenError(f"{repo_id} exists but this token may not see it; choose another name.")
        check_destination(created, source, private=is_private, holding=holding)
        return created.head

    def publish(
        self, repo_id: str, directory: Path, *, parent_sha: str, message: str, description: str, token: str | None
    ) -> PublishedCommit:
        """Upload every file, then make one commit. See `ModelHub`."""
        subject, api = Subject(repo_id, writing=True), self._client.api
        files = artifact_files(directory)
        additions = {path: CommitOperationAdd(path, file) for path, file in files.items()}
        for shard in (addition for path, addition in additions.items() if path.endswith(".safetensors")):
            self._stage(shard, subject, token)
        operations: list[_Operation] = [*additions.values(), *self._deletions(repo_id, set(files), token)]

        def commit() -> PublishedCommit:
            info = api.create_commit(
                repo_id,
                operations,
                commit_message=message,
                commit_description=description,
                parent_commit=parent_sha,
                token=token,
            )
            return PublishedCommit(repo_id, info.oid, self._commit_url(repo_id, info.oid), description)

        return self._commit_once(commit, subject, parent_sha, description, token)

    def _stage(self, shard: CommitOperationAdd, subject: Subject, token: str | None) -> None:
        """Upload one large file ahead of the commit; repeated at will, because the hub knows it by its hash."""
        api = self._client.api
        self._client.ask(
            lambda: api.preupload_lfs_files(subject.repo_id, [shard], token=token, free_memory=False), subject
        )

    def _commit_once(
        self,
        commit: Callable[[], PublishedCommit],
        subject: Subject,
        parent_sha: str,
        description: str,
        token: str | None,
    ) -> PublishedCommit:
        attempt = 0
        while True:
            try:
                return self._client.ask_once(commit, subject)
            except (HubUnavailableError, StaleParentError) as error:
                stored = self._stored(subject.repo_id, parent_sha, description, token)
                if stored is not None:
                    return stored
                attempt += 1
                if attempt == _COMMIT_ATTEMPTS or isinstance(error, StaleParentError):
                    raise
                self._client.wait(error, attempt - 1)

    def _stored(self, repo_id: str, parent_sha: str, description: str, token: str | None) -> PublishedCommit | None:
        """Return our commit if only its answer was lost, None if it did not happen. Raises StaleParentError."""
        head = self.head(repo_id, token=token)
        # Word by word: a hub may wrap or trim what it was given.
        if head is not None and head.description.split() == description.split():
            return head
        if head is None or head.sha != parent_sha:
            raise StaleParentError(f"{repo_id} was changed by somebody else meanwhile; try again.")
        return None

    def _deletions(self, repo_id: str, kept: set[str], token: str | None) -> list[CommitOperationDelete]:
        api, subject = self._client.api, Subject(repo_id, writing=True)
        listed = self._client.ask(lambda: api.list_repo_files(repo_id, token=token or False), subject)
        return [CommitOperationDelete(path) for path in listed if path not in kept | _KEPT_FILES]

    def _commit_url(self, repo_id: str, sha: str) -> str:
        return f"{self._client.endpoint}/{repo_id}/commit/{sha}"


def wanted_files(model: ResolvedModel, *, whole: bool) -> tuple[RepoFile, ...]:
    """Return the files that a download fetches. Raises what keeps a model from being downloaded."""
    if not whole:
        check_compressible(model)
        return model.downloads
    check_readable(model)
    return model.whole_downloads


def artifact_files(directory: Path) -> dict[str, Path]:
    """Return every file to publish by its path in the repository, weights first, linked ones left out.

    Hidden ones are left out, too, but for the scores that the Hub itself looks for.
    """
    found = {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    visible = {name: path for name, path in found.items() if not _is_hidden(Path(name))}
    return dict(sorted(visible.items(), key=lambda item: (not item[0].endswith(".safetensors"), item[0])))


def _is_hidden(path: Path) -> bool:
    parts = path.parts[1:] if path.parts[0] == EVAL_RESULTS else path.parts
    return any(part.startswith(".") for part in parts)
