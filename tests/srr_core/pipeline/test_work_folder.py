"""Work that is continued, refused or published; never mixed."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from srr_core.errors import DestinationError, ResumeMismatchError, StorageError
from srr_core.pipeline.layer_record import LayerRecord
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.report import LayerReport

FINGERPRINT = {"source": "abc", "recipe": "def"}


def record(name: str) -> LayerRecord:
    report = LayerReport(
        name=name,
        shape=(2, 1),
        rank=1,
        preserved_rank=0,
        iterations=1,
        output_error=0.5,
        output_error_quantized_only=0.7,
        scaled_error=0.6,
        weight_error=0.8,
        correction_ratio=0.9,
        bits_per_weight=4.25,
        calibration_tokens=128,
        seconds=0.1,
    )
    return LayerRecord(name=name, digest="d", base_tensors=("a",), adapter_tensors=(), report=report)


def test_a_finished_layer_is_found_by_the_next_run(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(3, {"a": torch.ones(2)}, record("layer"))

    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        found = work.finished(3, "layer")

    assert found is not None
    assert found.record == record("layer")
    assert set(found.tensors) == {"a"}


def _stopped(tmp_path: Path) -> Path:
    """Leave two finished layers behind; return their folder."""
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        for index in range(2):
            work.finish(index, {"a": torch.full((2,), index + 1.0)}, record(f"layer {index}"))
        return work.path / "layers"


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def _empty_list(file: Path) -> None:
    file.write_text("[]")


def _of_another(file: Path) -> None:
    file.write_bytes(file.with_stem("00001").read_bytes())


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("damage", [Path.unlink, _truncate, _flip, _empty_list, _of_another])
def test_a_damaged_layer_is_not_finished_and_can_be_finished_again(
    suffix: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    damage(_stopped(tmp_path) / f"00000.{suffix}")
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        assert work.finished(0, "layer 0") is None
        assert work.finished(1, "layer 1") is not None
        work.finish(0, {"a": torch.ones(2)}, record("layer 0"))
        assert work.finished(0, "layer 0") is not None


def test_a_changed_number_in_the_record_is_noticed(tmp_path: Path) -> None:
    stored = _stopped(tmp_path) / "00000.json"
    stored.write_text(stored.read_text().replace("0.5", "0.4"))
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        assert work.finished(0, "layer 0") is None


def test_work_of_another_fingerprint_is_refused_and_kept(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(0, {"a": torch.ones(2)}, record("layer"))
    with pytest.raises(ResumeMismatchError, match="another recipe"):
        WorkFolder(tmp_path / "out", {**FINGERPRINT, "recipe": "other"})
    assert work.finished(0, "layer") is not None


@pytest.mark.parametrize("damaged", ["{", "[]", "null", ""])
def test_a_damaged_fingerprint_is_refused(damaged: str, tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        (work.path / "fingerprint.json").write_text(damaged)
    with pytest.raises(ResumeMismatchError, match="is damaged"):
        WorkFolder(tmp_path / "out", FINGERPRINT)


def test_layers_without_a_fingerprint_are_refused(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(0, {"a": torch.ones(2)}, record("layer"))
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


def test_a_destination_that_cannot_be_made_is_an_error_of_storage_and_loses_nothing(tmp_path: Path) -> None:
    with closing(WorkFolder(tmp_path / "out", FINGERPRINT)) as work:
        work.finish(3, {"a": torch.ones(2)}, record("layer"))
        shutil.rmtree(work.artifact, ignore_errors=True)

        with pytest.raises(StorageError, match="could not be created"):
            work.publish()

        assert work.finished(3, "layer") is not None
