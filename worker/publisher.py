"""From a finished artifact to a commit: checkpoint, report, recipe, card and licence at once, or nothing."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from service.hub.destination import Holding
from service.hub.model import ResolvedModel
from srr_core.checkpoint.carried_files import is_legal
from srr_core.errors import VerificationError
from srr_core.report import Report
from worker.card import COMPRESSED_TENSORS, model_card
from worker.hub import ModelHub, PublishedCommit

_REQUIRED_FILES = ("config.json", "report.json", "recipe.json")


def publish_artifact(
    hub: ModelHub,
    directory: Path,
    *,
    repo_id: str,
    report: Report,
    source: ResolvedModel,
    source_directory: Path,
    job_id: str,
    token: str | None,
    private: bool | None,
) -> PublishedCommit:
    """Publish an artifact and return its commit; a job that published before gets the commit it made then.

    The card is written into `directory`, and LICENSE, NOTICE and USE_POLICY files of the source are added to it.

    Raises:
        VerificationError: the directory is not a complete artifact of this report.
        HubError: as `ModelHub.prepare` and `ModelHub.publish` say.
    """
    _check_complete(directory, report)
    check_adapter(directory, repo_id)
    carry_legal_files(source_directory, directory)
    card = model_card(report, repo_id=repo_id, source=source, quant_method=quant_method(directory))
    (directory / "README.md").write_text(card, encoding="utf-8")
    return publish_folder(
        hub,
        directory,
        repo_id=repo_id,
        source=source,
        holding="compression",
        message=f"Publish {source.model_id} compressed with {report.recipe.name}",
        facts=(f"Recipe: {report.recipe.digest()}",),
        job_id=job_id,
        token=token,
        private=private,
    )


def publish_folder(
    hub: ModelHub,
    directory: Path,
    *,
    repo_id: str,
    source: ResolvedModel,
    holding: Holding,
    message: str,
    facts: Sequence[str] = (),
    job_id: str,
    token: str | None,
    private: bool | None,
) -> PublishedCommit:
    """Publish the files of a folder as the result of a job; one that published before gets the commit it made then.

    Args:
        facts: Further lines of the commit's description.
    Raises:
        HubError: as `ModelHub.prepare` and `ModelHub.publish` say.
    """
    earlier = published_commit(hub, repo_id, job_id=job_id, token=token)
    if earlier is not None:
        return earlier
    parent_sha = hub.prepare(repo_id, private=private, token=token, source=source, holding=holding)
    description = "\n".join((_job_line(job_id), f"Source: {source.model_id}@{source.sha}", *facts))
    return hub.publish(repo_id, directory, parent_sha=parent_sha, message=message, description=description, token=token)


def published_commit(hub: ModelHub, repo_id: str, *, job_id: str, token: str | None) -> PublishedCommit | None:
    """Return the commit a job has published already, if it is the head; a worker may have died right after it."""
    head = hub.head(repo_id, token=token)
    # Words, not lines: a hub may wrap or trim what it was given.
    return head if head is not None and f" {_job_line(job_id)} " in f" {' '.join(head.description.split())} " else None


def _job_line(job_id: str) -> str:
    return f"Job: {job_id}"


def _check_complete(directory: Path, report: Report) -> None:
    missing = [name for name in _REQUIRED_FILES if not (directory / name).is_file()]
    if missing or not any(directory.glob("*.safetensors")):
        what = ", ".join(missing) or ".safetensors file"
        raise VerificationError(f"The artifact has no {what}; nothing was published. Run the job again.")
    written = Report.model_validate_json((directory / "report.json").read_bytes())
    if written != report:
        raise VerificationError("report.json is not the report of this run; nothing was published. Run the job again.")


def check_adapter(directory: Path, repo_id: str) -> None:
    """Refuse an adapter that names another repository: transformers would load Q from there, or nothing at all.

    Raises:
        VerificationError: it does.
    """
    path = directory / "adapter_config.json"
    if not path.is_file():
        return
    base = json.loads(path.read_bytes()).get("base_model_name_or_path")
    if base != repo_id:
        raise VerificationError(
            f"adapter_config.json belongs to {base}, not to {repo_id}, so stock loaders would look in the wrong "
            "place; nothing was published. Run the job again."
        )


def quant_method(directory: Path) -> str:
    """Return which layout the artifact's config.json names."""
    config = json.loads((directory / "config.json").read_bytes())
    return str(config.get("quantization_config", {}).get("quant_method", COMPRESSED_TENSORS))


def carry_legal_files(source_directory: Path, directory: Path) -> None:
    """Copy LICENSE, NOTICE and USE_POLICY files, which travel with every derivative."""
    for file in sorted(source_directory.iterdir()):
        if is_legal(file.name) and file.is_file() and not (directory / file.name).exists():
            shutil.copyfile(file, directory / file.name)
