"""Work that is continued, refused or published; never mixed."""

import errno
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from srr_core.checkpoint.resume import WorkFolder
from srr_core.errors import DestinationError, ResumeMismatchError

FINGERPRINT = {"source": "abc", "recipe": "def"}


def test_a_finished_layer_is_found_by_the_next_run(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(3, {"a": torch.ones(2)}, {"name": "layer", "digest": "d"})

    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        found = work.finished(3, "layer")

    assert found is not None
    assert found.facts["digest"] == "d"
    assert set(found.tensors) == {"a"}


def test_a_layer_without_facts_is_not_finished(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(0, {"a": torch.ones(2)}, {"name": "layer"})
        (work.path / "layers" / "00000.json").unlink()
        assert work.finished(0, "layer") is None


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_damaged_layer_is_not_finished(suffix: str, tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(0, {"a": torch.ones(2)}, {"name": "layer"})
        file = work.path / "layers" / f"00000.{suffix}"
        file.write_bytes(file.read_bytes()[:-2])
        assert work.finished(0, "layer") is None


def test_work_of_another_fingerprint_is_refused_and_kept(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(0, {"a": torch.ones(2)}, {"name": "layer"})
    with pytest.raises(ResumeMismatchError, match="another recipe"):
        WorkFolder(tmp_path / "out", {**FINGERPRINT, "recipe": "other"})
    assert work.finished(0, "layer") is not None


def test_a_damaged_fingerprint_is_refused(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        (work.path / "fingerprint.json").write_text("{")
    with pytest.raises(ResumeMismatchError, match="is damaged"):
        WorkFolder(tmp_path / "out", FINGERPRINT)


def test_layers_without_a_fingerprint_are_refused(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(0, {"a": torch.ones(2)}, {"name": "layer"})
        (work.path / "fingerprint.json").unlink()
    with pytest.raises(ResumeMismatchError, match="no fingerprint"):
        WorkFolder(tmp_path / "out", FINGERPRINT)


def test_a_destination_that_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DestinationError, match="exists already"):
        WorkFolder(tmp_path / "out", FINGERPRINT)
    assert not (tmp_path / "out.partial").exists()


def test_a_destination_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DestinationError, match="cannot be written"):
        WorkFolder(tmp_path / "file" / "out", FINGERPRINT)


def test_publishing_renames_the_artifact_and_removes_the_rest(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        (work.artifact / "config.json").write_text("{}")
        work.publish()
        assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out" / "config.json").read_text() == "{}"


def test_a_destination_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        (tmp_path / "out").mkdir()
        with pytest.raises(DestinationError, match="appeared"):
            work.publish()
        assert work.artifact.exists()


def test_a_second_run_to_the_same_destination_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        (work.artifact / "config.json").write_text("{}")
        with pytest.raises(DestinationError, match=r"out\.partial is in use by another run"):
            WorkFolder(tmp_path / "out", FINGERPRINT)
        assert (work.artifact / "config.json").exists()
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as again:
        assert not any(again.artifact.iterdir())


def test_a_folder_refused_for_its_fingerprint_is_not_held(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)):
        pass
    with pytest.raises(ResumeMismatchError):
        WorkFolder(tmp_path / "out", {})
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        assert work.artifact.is_dir()


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(code: int) -> Callable[..., None]:
        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        return refuse

    monkeypatch.setattr("fcntl.flock", lock(errno.ENOSYS))
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        assert work.artifact.is_dir()
    monkeypatch.setattr("fcntl.flock", lock(errno.EIO))
    with pytest.raises(DestinationError, match="cannot be locked"):
        WorkFolder(tmp_path / "out", FINGERPRINT)
