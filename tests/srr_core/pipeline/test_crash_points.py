"""The power fails at every file operation of a finished layer; what is found afterwards is right or not there."""

from contextlib import closing
from pathlib import Path

import pytest
import torch

from srr_core.pipeline import compress
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.types import Progress
from tests.pico import build_checkpoint, write_text
from tests.srr_core.checkpoint.disk import Disk, PowerFailure
from tests.srr_core.pipeline.test_compress import small
from tests.srr_core.pipeline.test_resume import same
from tests.srr_core.pipeline.test_work_folder import FINGERPRINT, record

OPERATIONS = range(1, 9)
"""Of one finished layer: open, flush, rename and flush the folder, once for the tensors and once for the record."""


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(tmp_path)
    disk.install(monkeypatch)
    return disk


def opened(tmp_path: Path) -> "closing[WorkFolder]":
    return closing(WorkFolder(tmp_path / "out", FINGERPRINT))


def finish(work: WorkFolder, index: int, value: float) -> None:
    work.finish(index, {"a": torch.full((64,), value)}, record(f"layer {index}, {value}"))


def value_of(work: WorkFolder, index: int, *values: float) -> float | None:
    """Return which of some values a layer was finished with; None for an unfinished one."""
    found = {value: work.finished(index, f"layer {index}, {value}") for value in values}
    (whole,) = [value for value, layer in found.items() if layer is not None] or [None]
    layer = found.get(whole) if whole is not None else None
    if layer is not None:
        entry = layer.tensors["a"]
        content = torch.frombuffer(bytearray(entry.file.read_bytes()[entry.begin : entry.end]), dtype=torch.float32)
        assert torch.equal(content, torch.full((64,), whole))
    return whole


def test_a_layer_takes_as_many_operations_as_the_tests_fail_at(disk: Disk, tmp_path: Path) -> None:
    with opened(tmp_path) as work:
        before = disk.operations
        finish(work, 0, 1.0)

    assert disk.operations - before == len(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_layer_is_whole_or_unfinished_whenever_the_power_fails(operation: int, disk: Disk, tmp_path: Path) -> None:
    with opened(tmp_path) as work:
        finish(work, 0, 1.0)
        disk.fails_at = disk.operations + operation
        with pytest.raises(PowerFailure):
            finish(work, 1, 2.0)
    disk.lose_power()

    with opened(tmp_path) as work:
        assert value_of(work, 0, 1.0) == 1.0
        assert value_of(work, 1, 2.0) is None
        finish(work, 1, 2.0)
        assert value_of(work, 1, 2.0) == 2.0


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_layer_that_is_finished_again_is_never_half_of_each(operation: int, disk: Disk, tmp_path: Path) -> None:
    with opened(tmp_path) as work:
        finish(work, 0, 1.0)
        disk.fails_at = disk.operations + operation
        with pytest.raises(PowerFailure):
            finish(work, 0, 2.0)
    disk.lose_power()

    with opened(tmp_path) as work:
        assert value_of(work, 0, 1.0, 2.0) in {1.0, None}


def test_a_layer_that_was_said_to_be_finished_survives_the_power(disk: Disk, tmp_path: Path) -> None:
    with opened(tmp_path) as work:
        finish(work, 0, 1.0)
    disk.lose_power()

    with opened(tmp_path) as work:
        assert value_of(work, 0, 1.0) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_run_that_lost_its_power_ends_with_the_same_bits(operation: int, disk: Disk, tmp_path: Path) -> None:
    source, text = build_checkpoint(tmp_path / "source"), write_text(tmp_path / "text.txt")
    compress(source, small(), tmp_path / "whole", calibration_text=text)
    told: list[str] = []

    def fail_in_the_fourth(progress: Progress) -> None:
        told.extend([progress.layer] if progress.layer else [])
        disk.fails_at = disk.operations + operation if len(told) == 3 and disk.fails_at is None else disk.fails_at

    with pytest.raises(PowerFailure):
        compress(source, small(), tmp_path / "out", calibration_text=text, on_progress=fail_in_the_fourth)
    disk.lose_power()
    again: list[Progress] = []
    compress(source, small(), tmp_path / "out", calibration_text=text, on_progress=again.append)

    assert same(tmp_path / "whole", tmp_path / "out")
    first = next(progress for progress in again if progress.stage == "compress" and progress.layer and progress.metrics)
    assert first.completed == 4
