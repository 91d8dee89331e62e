"""A model of a hub fetched to be measured: a source or an artifact of ours, with all that changes its outputs."""

from pathlib import Path

from service.hub.client import HubClient
from service.hub.errors import HubUnavailableError
from service.hub.metadata import HuggingFaceMetadata
from service.hub.model import check_readable
from worker.download_meter import DownloadMeter, OnBytes, ShouldStop
from worker.hub_files import fetch_file

_COMPLETE = ".complete"


def fetch_evaluated(
    client: HubClient,
    model_id: str,
    revision: str,
    folder: Path,
    *,
    token: str | None,
    on_progress: OnBytes | None = None,
    should_stop: ShouldStop | None = None,
) -> tuple[Path, str]:
    """Return the folder of a model at a commit, and the commit; nothing is fetched twice.

    A licence that forbids derivatives is no obstacle: measuring makes none.

    Args:
        folder: Where models are kept, one folder per repository and commit.
    Raises:
        HubError: the hub refuses or cannot be reached; a commit that is here already needs no hub.
        StopRequested: `should_stop` said so; finished files are kept.
    """
    kept = folder / model_id.replace("/", "--")
    if (kept / revision / _COMPLETE).is_file():
        return kept / revision, revision
    try:
        model = HuggingFaceMetadata(client).resolve(model_id, revision, token=token)
    except HubUnavailableError as error:
        here = sorted(file.parent.name for file in kept.glob(f"*/{_COMPLETE}"))
        if here:
            raise HubUnavailableError(f"{error} Commit {here[-1]} is on this machine: name it as revision.") from None
        raise
    check_readable(model)
    files = model.whole_downloads
    target = folder / model.model_id.replace("/", "--") / model.sha
    if not (target / _COMPLETE).is_file():
        target.mkdir(parents=True, exist_ok=True)
        meter = DownloadMeter(sum(file.size_bytes for file in files), on_progress, should_stop)
        for file in files:
            fetch_file(
                client,
                model.model_id,
                file,
                target,
                repo_type="model",
                revision=model.sha,
                token=token,
                meter=meter,
            )
        (target / _COMPLETE).touch()
    return target, model.sha
