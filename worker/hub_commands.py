"""`srr hub`: models brought into the folder hub of this machine, listed and removed."""

from difflib import get_close_matches
from pathlib import Path

from examples import DEMO_MODEL
from service.commands.output import EXIT_BAD_INPUT, CommandError, print_json, print_line
from service.hub.errors import NoModelFolderError
from service.hub.naming import check_repo_id
from worker.folder_hub import FolderHub

DEMO_ID = "demo/tiny-llama"
HUB_FOLDER = "hub"
"""Name of the folder hub inside a data directory."""


def hub_folder(data_dir: Path) -> Path:
    """Return the folder hub of a data directory."""
    return data_dir / HUB_FOLDER


def seed(data_dir: Path) -> Path:
    """Put the bundled model into the hub of a data directory, and return the hub's folder.

    Raises:
        CommandError: the directory cannot be written.
    """
    root = hub_folder(data_dir)
    try:
        FolderHub(root).import_model(DEMO_MODEL, DEMO_ID)
    except OSError as error:
        raise CommandError(
            f"--data-dir {data_dir} cannot be used: {error.strerror}; name a directory that can be written",
            exit_code=EXIT_BAD_INPUT,
        ) from error
    return root


def add(folder: Path, repo_id: str, *, data_dir: Path, as_json: bool) -> None:
    """Copy a local model folder into the hub, as the next commit of a repository."""
    try:
        commit = bring(folder, repo_id, hub_folder(data_dir))
    except NoModelFolderError as error:
        raise CommandError(str(error), exit_code=EXIT_BAD_INPUT) from error
    if as_json:
        print_json({"id": repo_id, "commit": commit})
    else:
        print_line(f"{repo_id} is in the hub at commit {commit[:12]}; submit it with: srr submit {repo_id} -d ORG/NAME")


def bring(folder: Path, repo_id: str, root: Path) -> str:
    """Copy a local model folder into a folder hub, as the next commit of a repository, and return the commit.

    Raises:
        InvalidRepoIdError: the name.
        NoModelFolderError: the folder has no config.json, or cannot be copied.
    """
    check_repo_id(repo_id)
    try:
        if not (folder / "config.json").is_file():
            raise NoModelFolderError(f"{folder} is no model folder: it has no config.json")
        return FolderHub(root).import_model(folder, repo_id)
    except OSError as error:
        raise NoModelFolderError(f"{folder} cannot be copied into the hub: {error.strerror or error}") from error


def list_models(*, data_dir: Path, as_json: bool) -> None:
    """Print what the hub holds."""
    hub = FolderHub(hub_folder(data_dir))
    rows = [(repo_id, head.sha) for repo_id in hub.repository_ids() if (head := hub.head(repo_id)) is not None]
    if as_json:
        print_json({"models": [{"id": repo_id, "commit": commit} for repo_id, commit in rows]})
        return
    for repo_id, commit in rows:
        print_line(f"{commit[:12]}  {repo_id}")
    if not rows:
        print_line(f"The hub in {hub.root} is empty; add a model with: srr hub add FOLDER ORG/NAME")


def remove(repo_id: str, *, data_dir: Path, as_json: bool) -> None:
    """Delete a repository of the hub with all its commits."""
    hub = FolderHub(hub_folder(data_dir))
    check_repo_id(repo_id)
    if not hub.repository(repo_id).exists:
        raise CommandError(_unknown(hub, repo_id), exit_code=EXIT_BAD_INPUT)
    hub.remove(repo_id)
    if as_json:
        print_json({"id": repo_id, "removed": True})
    else:
        print_line(f"{repo_id} is removed from the hub.")


def _unknown(hub: FolderHub, repo_id: str) -> str:
    known = list(hub.repository_ids())
    close = get_close_matches(repo_id, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; it holds {', '.join(known[:5]) or 'nothing'}"
    return f"the hub in {hub.root} has no {repo_id}{hint}"
