"""One file of a repository at a commit, fetched and compared with what the hub lists."""

from pathlib import Path
from typing import Literal

from huggingface_hub import hf_hub_download

from service.hub.client import HubClient
from service.hub.errors import DownloadCorruptedError
from service.hub.model import RepoFile
from service.hub.translation import Subject
from srr_core.checkpoint.carried_files import is_inside
from worker.download_meter import DownloadMeter
from worker.integrity import verify_file


def fetch_file(
    client: HubClient,
    repo_id: str,
    file: RepoFile,
    directory: Path,
    *,
    repo_type: Literal["model", "dataset"],
    revision: str,
    token: str | None,
    meter: DownloadMeter,
) -> None:
    """Put a file into a directory, under its own path, and check its size and hash.

    Raises:
        HubError: the hub refuses, cannot be reached, sent something else, or lists what leads out of its folder.
        StopRequested: the meter's caller asked for it.
    """
    if not is_inside(file.path):
        raise DownloadCorruptedError(f"{repo_id} lists {file.path!r}, which leads out of its folder.")

    def fetch() -> None:
        meter.check()
        try:
            hf_hub_download(
                repo_id,
                file.path,
                repo_type=repo_type,
                revision=revision,
                local_dir=directory,
                token=token or False,
                endpoint=client.endpoint,
                tqdm_class=meter.bar,
            )
        except Exception:
            meter.check()  # called off by us, whatever the client makes of it
            raise

    meter.begin()
    client.ask(fetch, Subject(repo_id, revision))
    verify_file(directory, file, model_id=repo_id)
    meter.finish(file)
    meter.check()
