"""What only the folder hub promises: it survives being killed, takes turns, and never leaves its root."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from service.hub.errors import (
    DownloadCorruptedError,
    ModelNotFoundError,
    PublicationRefusedError,
    StaleParentError,
)
from service.hub.model import RepoFile, ResolvedModel
from worker.folder_hub import FolderHub

SOURCE = ResolvedModel("acme/base", "0" * 40, private=False, gated=False, files=(RepoFile("model.safetensors", 1),))


@pytest.fixture
def hub(tmp_path: Path) -> FolderHub:
    return FolderHub(tmp_path / "hub")


def _folder(path: Path, weights: bytes = b"weights") -> Path:
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(weights)
    (path / "config.json").write_text("{}")
    return path


def test_a_local_model_is_imported_once(hub: FolderHub, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model")

    first = hub.import_model(folder, "demo/tiny")
    second = hub.import_model(folder, "demo/tiny")

    assert first == second
    assert list(hub.repository_ids()) == ["demo/tiny"]


def test_the_commit_url_is_a_folder_ready_to_load(hub: FolderHub, tmp_path: Path) -> None:
    hub.import_model(_folder(tmp_path / "model"), "demo/tiny")

    head = hub.head("demo/tiny")

    assert head is not None
    path = Path(unquote(urlsplit(head.url).path))
    assert (path / "model.safetensors").read_bytes() == b"weights"


def test_files_of_a_commit_cannot_be_written_to(hub: FolderHub, tmp_path: Path) -> None:
    sha = hub.import_model(_folder(tmp_path / "model"), "demo/tiny")

    stored = hub.existing("demo/tiny").snapshot(sha) / "model.safetensors"

    assert stored.stat().st_mode & 0o222 == 0


def test_hidden_files_and_links_are_not_imported(hub: FolderHub, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model")
    (folder / ".secret").write_text("secret")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")
    (folder / "LICENSE").symlink_to("/etc/hostname")

    hub.import_model(folder, "demo/tiny")

    assert [file.path for file in hub.resolve("demo/tiny").files] == ["config.json", "model.safetensors"]


def test_a_damaged_snapshot_is_noticed(hub: FolderHub, tmp_path: Path) -> None:
    sha = hub.import_model(_folder(tmp_path / "model"), "demo/tiny")
    stored = hub.existing("demo/tiny").snapshot(sha) / "model.safetensors"
    stored.chmod(0o644)
    stored.write_bytes(b"wEights")

    with pytest.raises(DownloadCorruptedError, match=r"model\.safetensors"):
        hub.download(hub.resolve("demo/tiny"), tmp_path / "download")

    assert not (tmp_path / "download" / "model.safetensors").exists()


def test_the_error_of_a_missing_model_does_not_tell_of_others(hub: FolderHub, tmp_path: Path) -> None:
    hub.import_model(_folder(tmp_path / "model"), "secret/tiny")

    with pytest.raises(ModelNotFoundError, match="demo/tinny does not exist") as missing:
        hub.resolve("demo/tinny")

    assert "secret/tiny" not in str(missing.value)


@pytest.mark.parametrize("step", ["rename", "document", "ref"])
def test_a_process_killed_at_any_step_of_a_commit_leaves_the_old_head(
    hub: FolderHub, tmp_path: Path, step: str
) -> None:
    before = hub.import_model(_folder(tmp_path / "old", b"old"), "demo/tiny")
    _folder(tmp_path / "new", b"new")

    killed = subprocess.run(
        [sys.executable, "-c", _DIE_AT, step, str(hub.root), str(tmp_path / "new")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        check=False,
    )

    assert killed.returncode == 17
    assert hub.resolve("demo/tiny").sha == before
    after = hub.import_model(tmp_path / "new", "demo/tiny")
    assert hub.resolve("demo/tiny").sha == after != before
    assert not (hub.root / "demo" / "tiny" / "incoming").exists()
    assert (hub.existing("demo/tiny").snapshot(after) / "model.safetensors").read_bytes() == b"new"


_DIE_AT = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from worker.folder_hub import FolderHub

    step, root, new = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    parts = {"rename": "/snapshots/", "document": "/commits/", "ref": "/refs/heads/main"}

    def die(event, arguments):
        if event == "os.rename" and parts[step] in str(arguments[1]):
            os._exit(17)

    sys.addaudithook(die)
    FolderHub(root).import_model(new, "demo/tiny")
    """
)


def test_writers_take_turns_and_one_of_two_with_the_same_parent_wins(hub: FolderHub, tmp_path: Path) -> None:
    parent = hub.prepare("alice/out", private=None, token=None, source=SOURCE)
    folders = [_folder(tmp_path / str(number), bytes([number])) for number in range(4)]

    def publish(number: int) -> str | None:
        try:
            commit = hub.publish(
                "alice/out",
                folders[number],
                parent_sha=parent,
                message="m",
                description=f"job_{number}",
                token=None,
            )
        except StaleParentError:
            return None
        return commit.sha

    with ThreadPoolExecutor(max_workers=4) as pool:
        shas = [sha for sha in pool.map(publish, range(4)) if sha is not None]

    assert shas == [hub.resolve("alice/out").sha]


def test_a_refused_destination_leaves_nothing_behind(hub: FolderHub) -> None:
    gated = replace(SOURCE, gated=True)

    with pytest.raises(PublicationRefusedError):
        hub.prepare("alice/out", private=False, token=None, source=gated)

    assert not (hub.root / "alice").exists()


def test_a_ref_outside_the_repository_is_no_revision(hub: FolderHub, tmp_path: Path) -> None:
    sha = hub.import_model(_folder(tmp_path / "model"), "demo/tiny")
    (hub.root / "demo" / "other").write_text(sha)

    for revision in ("../../../other", "/etc/hostname", "main/../main", "\x00"):
        assert hub.existing("demo/tiny").find(revision) is None
