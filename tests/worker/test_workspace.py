"""Scratch directories: one holder at a time, a reserve, and nothing left behind."""

from pathlib import Path

import pytest

from service.platform.ids import new_id
from srr_core.errors import StorageError
from worker.workspace import WorkspaceBusyError, Workspaces


def test_directory_is_private_and_found_again(tmp_path: Path) -> None:
    workspaces, job_id = Workspaces(tmp_path, reserve_bytes=0), new_id("job")

    with workspaces.hold(job_id) as (workspace, _):
        workspace.artifact.mkdir()
        assert workspace.temporary.stat().st_mode & 0o077 == 0
    with workspaces.hold(job_id) as (workspace, _):
        assert workspace.artifact.is_dir()


def test_directory_has_one_holder_at_a_time(tmp_path: Path) -> None:
    workspaces, job_id = Workspaces(tmp_path, reserve_bytes=0), new_id("job")

    with workspaces.hold(job_id), pytest.raises(WorkspaceBusyError), workspaces.hold(job_id):
        pass
    with workspaces.hold(job_id):
        pass


def test_reserve_is_kept_free(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="WORKER_SCRATCH_DIR"):
        Workspaces(tmp_path, reserve_bytes=0).require_free(1 << 60)
    with pytest.raises(StorageError), Workspaces(tmp_path, reserve_bytes=1 << 60).hold(new_id("job")):
        pass


def test_size_counts_files_and_not_links(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path, reserve_bytes=0)

    with workspaces.hold(new_id("job")) as (workspace, _):
        workspace.source.mkdir()
        (workspace.source / "model.safetensors").write_bytes(b"x" * 1000)
        (workspace.root / "link").symlink_to(workspace.source / "model.safetensors")
        assert workspace.size_bytes() == 1000


def test_sweep_removes_what_is_over_and_nothing_else(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path, reserve_bytes=0)
    over, running = new_id("job"), new_id("job")
    (tmp_path / over / "source").mkdir(parents=True)
    (tmp_path / running).mkdir()
    (tmp_path / "somebody-elses").mkdir()

    assert workspaces.sweep(lambda job_id: job_id == over) == [over]
    assert {path.name for path in tmp_path.iterdir()} == {running, "somebody-elses"}


def test_sweep_before_the_first_job_finds_nothing(tmp_path: Path) -> None:
    assert Workspaces(tmp_path / "none", reserve_bytes=0).sweep(lambda _: True) == []


@pytest.mark.parametrize("name", ["..", "job_../../etc", "", "job_1", "/etc"])
def test_only_job_ids_name_directories(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        Workspaces(tmp_path, reserve_bytes=0).remove(name)
