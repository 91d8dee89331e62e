"""`srr report`: what came of a job, of an artifact in a folder or of a published one, in words or as a file."""

import json
import re
from pathlib import Path

from service.client import Client
from service.commands.output import EXIT_BAD_INPUT, CommandError, print_json, print_line
from service.commands.report_text import print_any_report
from service.hub.client import HubClient
from service.hub.errors import ModelNotFoundError
from service.hub.naming import check_repo_id
from service.hub.settings import HubSettings
from service.jobs.report_words import REPORT_FILES, read_any_report, report_document
from service.jobs.reports import AnyReport
from srr_core.telling.document import to_markdown
from srr_core.telling.document_html import to_html

_JOB = re.compile(r"job_[0-9a-z]{26}")
MAX_REPORT_BYTES = 50_000_000
"""A model of a hundred thousand experts has a report of this order."""
_WRITERS = {".md": to_markdown, ".html": to_html}


def show_report(
    place: str, client: Client, *, revision: str, hub_token: str | None, output: Path | None, as_json: bool
) -> None:
    """Print a report, or write it to a file whose ending says how: .md, .html or .json.

    Args:
        place: A job, a folder or a file of a report, or a repository of a hub.
    Raises:
        CommandError: there is no report, or it cannot be read or written.
    """
    content = _content(place, client, revision=revision, hub_token=hub_token)
    try:
        report = read_any_report(content)
    except ValueError as error:
        raise CommandError(f"the report of {place} cannot be read: {_first_line(error)}") from error
    if output is not None:
        _write(output, report, content)
    elif as_json:
        print_json(json.loads(content))
    else:
        print_any_report(report)


def _content(place: str, client: Client, *, revision: str, hub_token: str | None) -> bytes:
    path = Path(place)
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return _read(path)
    if _JOB.fullmatch(place):
        return json.dumps(client.stored_report(place), ensure_ascii=False).encode()
    if place.count("/") == 1 and not place.startswith((".", "/")):
        return _published(place, revision, hub_token)
    raise CommandError(
        f"{place} is no folder and no file here; name a job by its id, a folder, or a repository as org/name",
        exit_code=EXIT_BAD_INPUT,
    )


def _in_folder(folder: Path) -> bytes:
    # A fine-tuning that began at an artifact carries the report of that, too, and its own is the later word.
    for name in reversed(REPORT_FILES):
        if (folder / name).is_file():
            return _read(folder / name)
    raise CommandError(f"{folder} holds none of {', '.join(REPORT_FILES)}", exit_code=EXIT_BAD_INPUT)


def _published(repo_id: str, revision: str, token: str | None) -> bytes:
    check_repo_id(repo_id)
    hub = HubClient(HubSettings().endpoint)
    for name in reversed(REPORT_FILES):
        try:
            return hub.read_bytes(repo_id, revision, name, token=token, limit_bytes=MAX_REPORT_BYTES)
        except ModelNotFoundError as error:
            if name == REPORT_FILES[0]:
                raise CommandError(f"no {' or '.join(REPORT_FILES)} of {repo_id} on {hub.endpoint}: {error}") from error
    raise AssertionError("there is at least one name")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", exit_code=EXIT_BAD_INPUT) from error


def _write(output: Path, report: AnyReport, content: bytes) -> None:
    if output.suffix != ".json" and output.suffix not in _WRITERS:
        raise CommandError(f"--output {output} must end in .md, .html or .json", exit_code=EXIT_BAD_INPUT)
    try:
        if output.suffix == ".json":
            output.write_bytes(content)
        else:
            output.write_text(_WRITERS[output.suffix](report_document(report)), encoding="utf-8", newline="")
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from error
    print_line(f"written     {output}")


def _first_line(error: ValueError) -> str:
    return (str(error).splitlines() or ["it is empty"])[0]
