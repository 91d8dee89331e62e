"""Files are complete or absent, whatever goes wrong while they are written."""

import errno
from pathlib import Path

import pytest
import torch

from srr_core.checkpoint.writer import atomic_file, write_json, write_tensors
from srr_core.errors import StorageError


def test_an_exception_leaves_the_old_file_and_no_partial_one(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    write_json(file, {"old": 1})
    before = file.read_bytes()

    def interrupted() -> None:
        with atomic_file(file) as stream:
            stream.write(b"half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        interrupted()
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_is_a_storage_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the disk is full; free space and run again"), atomic_file(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_real_full_device_is_a_storage_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / ".x.safetensors.partial").symlink_to(full)
    with pytest.raises(StorageError, match="the disk is full"):
        write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(100_000)})
    assert not (tmp_path / "x.safetensors").exists()


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not be written"):
        write_json(tmp_path / "gone" / "x.json", {})
