"""Datasets of a hub fetched into a folder at one commit each: files of data, never code."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import DatasetInfo

from service.hub.client import HubClient
from service.hub.errors import HubRefusedError
from service.hub.model import RepoFile
from service.hub.translation import Subject
from srr_core.errors import EvaluationError, TrainingDataError
from srr_core.evaluators.dataset_folder import DATA_SUFFIXES, LOCK_FILE, DatasetFolder, DatasetLock, PinnedDataset
from srr_core.recipe.byte_sizes import size_words
from worker.download_meter import DownloadMeter, OnBytes, ShouldStop
from worker.hub_files import fetch_file

MAX_DATASET_BYTES = 8 * 2**30
"""The largest data set of the suites has a fifth of it; what is larger is rather a training set."""
_DESCRIPTION = "README.md"


class DatasetHub:
    """The data sets of the Hugging Face Hub, or of a server that speaks its protocol."""

    def __init__(self, client: HubClient) -> None:
        self._client = client

    def prefetch(
        self,
        datasets: Sequence[str],
        folder: DatasetFolder,
        *,
        token: str | None = None,
        on_progress: OnBytes | None = None,
        should_stop: ShouldStop | None = None,
    ) -> dict[str, PinnedDataset]:
        """Fetch what is not in the folder yet and return all of them, with their commits.

        A data set that is there stays at its commit, so a folder is a snapshot until somebody removes it. One that is
        listed but whose files are gone is fetched again at the same commit.

        Raises:
            HubError: the hub refuses or cannot be reached.
            EvaluationError: a data set has no files of data: it is made by code.
            StopRequested: `should_stop` said so; complete data sets are kept.
        """
        for dataset in dict.fromkeys(datasets):
            lock = folder.lock()
            pinned = lock.datasets.get(dataset)
            if pinned is not None and (folder.root / pinned.path).is_dir():
                continue
            info = self._info(dataset, pinned.revision if pinned else "main", token)
            fetched = self._fetch(dataset, info, folder.root, token, on_progress, should_stop)
            _write_lock(folder.root, DatasetLock(datasets={**lock.datasets, dataset: fetched}))
        known = folder.lock().datasets
        return {dataset: known[dataset] for dataset in datasets}

    def fetch(
        self,
        dataset: str,
        revision: str,
        path: str,
        folder: Path,
        *,
        token: str | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Path:
        """Fetch one file of a dataset at a commit, checked, and return where it lies.

        Raises:
            HubError: the hub refuses or cannot be reached.
            TrainingDataError: there is no such file, or it is too large.
            StopRequested: `should_stop` said so.
        """
        listed = {file.path: file for file in _listed(self._info(dataset, revision, token))}
        file = listed.get(path)
        if file is None:
            raise TrainingDataError(f"dataset {dataset} has no file {path} at commit {revision[:12]}")
        if file.size_bytes > MAX_DATASET_BYTES:
            size = size_words(file.size_bytes)
            raise TrainingDataError(f"{path} of dataset {dataset} has {size}; name a smaller file")
        fetch_file(
            self._client,
            dataset,
            file,
            folder,
            repo_type="dataset",
            revision=revision,
            token=token,
            meter=DownloadMeter(file.size_bytes, None, should_stop),
        )
        return folder / path

    def name_of(self, dataset: str, revision: str, *, token: str | None = None) -> str:
        """Return what a dataset is called now: after a rename, not as it was asked for. Raises HubError."""
        return str(self._info(dataset, revision, token).id)

    def _info(self, dataset: str, revision: str, token: str | None) -> DatasetInfo:
        api = self._client.api
        return self._client.ask(
            lambda: api.dataset_info(dataset, revision=revision, files_metadata=True, token=token or False),
            Subject(dataset, revision),
        )

    def _fetch(
        self,
        dataset: str,
        info: DatasetInfo,
        root: Path,
        token: str | None,
        on_progress: OnBytes | None,
        should_stop: ShouldStop | None,
    ) -> PinnedDataset:
        files = _data_files(dataset, info)
        meter = DownloadMeter(sum(file.size_bytes for file in files), on_progress, should_stop)
        root.mkdir(parents=True, exist_ok=True)
        pinned = PinnedDataset(revision=str(info.sha), path=dataset.replace("/", "--"))
        # Beside its place and renamed when complete, so that half a data set is never evaluated on.
        with tempfile.TemporaryDirectory(dir=root, prefix=".incoming-") as incoming:
            for file in files:
                fetch_file(
                    self._client,
                    dataset,
                    file,
                    Path(incoming),
                    repo_type="dataset",
                    revision=pinned.revision,
                    token=token,
                    meter=meter,
                )
            shutil.rmtree(Path(incoming) / ".cache", ignore_errors=True)
            shutil.rmtree(root / pinned.path, ignore_errors=True)
            complete = Path(incoming) / "complete"
            complete.mkdir()
            for part in [part for part in Path(incoming).iterdir() if part != complete]:
                part.rename(complete / part.name)
            complete.rename(root / pinned.path)
        return pinned


def _listed(info: DatasetInfo) -> list[RepoFile]:
    return [
        RepoFile(
            sibling.rfilename,
            sibling.size or 0,
            sha256=sibling.lfs.sha256 if sibling.lfs is not None else None,
            git_sha1=sibling.blob_id,
        )
        for sibling in info.siblings or ()
    ]


def _data_files(dataset: str, info: DatasetInfo) -> list[RepoFile]:
    listed = _listed(info)
    data = [file for file in listed if file.path.endswith(DATA_SUFFIXES)]
    if not data:
        made = any(file.path.endswith(".py") for file in listed)
        why = "is made by code of its own, which is never run" if made else "holds no file of data that we read"
        raise EvaluationError(f"dataset {dataset} {why}")
    size = sum(file.size_bytes for file in data)
    if size > MAX_DATASET_BYTES:
        raise HubRefusedError(
            f"dataset {dataset} has {size_words(size)}, more than the {size_words(MAX_DATASET_BYTES)} fetched "
            "for an evaluation; put the part that is needed into a folder yourself"
        )
    return sorted([*data, *(file for file in listed if file.path == _DESCRIPTION)], key=lambda file: file.path)


def _write_lock(root: Path, lock: DatasetLock) -> None:
    with tempfile.NamedTemporaryFile("w", dir=root, prefix=".lock-", delete=False, encoding="utf-8") as stream:
        stream.write(lock.model_dump_json(indent=2) + "\n")
    Path(stream.name).replace(root / LOCK_FILE)
