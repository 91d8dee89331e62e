"""A run stopped at any layer goes on from there and ends with the same bits."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from srr_core.errors import ResumeMismatchError, StopRequested
from srr_core.pipeline import compress
from srr_core.types import Progress
from tests.pico import build_checkpoint, write_text
from tests.srr_core.pipeline.test_compress import small

WEIGHTS = ("model-00001-of-00001.safetensors", "adapter_model.safetensors", "config.json", "recipe.json")


def _same(first: Path, second: Path) -> bool:
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in WEIGHTS)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "source")


@pytest.mark.parametrize("layers", [0, 1, 6, 7, 13, 14])
def test_a_run_stopped_after_some_layers_ends_with_the_same_bits(
    layers: int, tmp_path: Path, text: Path, source: Path
) -> None:
    whole = tmp_path / "whole"
    compress(source, small(), whole, calibration_text=text)
    finished: list[str] = []

    def note(progress: Progress) -> None:
        if progress.stage == "compress" and progress.layer:
            finished.append(progress.layer)

    with pytest.raises(StopRequested, match="goes on from there"):
        compress(
            source,
            small(),
            tmp_path / "out",
            calibration_text=text,
            on_progress=note,
            should_stop=lambda: len(finished) >= layers,
        )
    assert not (tmp_path / "out").exists()
    assert len(finished) == layers

    compress(source, small(), tmp_path / "out", calibration_text=text)

    assert _same(whole, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


def test_a_stopped_run_of_another_recipe_is_refused_and_kept(tmp_path: Path, text: Path, source: Path) -> None:
    finished: list[Progress] = []
    with pytest.raises(StopRequested):
        compress(
            source,
            small(),
            tmp_path / "out",
            calibration_text=text,
            on_progress=finished.append,
            should_stop=lambda: sum(1 for progress in finished if progress.layer) >= 3,
        )
    kept = sorted(path.name for path in (tmp_path / "out.partial" / "layers").iterdir())

    with pytest.raises(ResumeMismatchError, match="another recipe"):
        compress(source, small(rank=5), tmp_path / "out", calibration_text=text)

    assert sorted(path.name for path in (tmp_path / "out.partial" / "layers").iterdir()) == kept


def test_a_changed_source_is_not_mixed_with_finished_layers(tmp_path: Path, text: Path, source: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(StopRequested):
        compress(
            source,
            small(),
            tmp_path / "out",
            calibration_text=text,
            on_progress=seen.append,
            should_stop=lambda: any(progress.layer for progress in seen),
        )
    build_checkpoint(tmp_path / "other", seed=9)
    (source / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(ResumeMismatchError, match="another source"):
        compress(source, small(), tmp_path / "out", calibration_text=text)


KILLED = """
import sys
from pathlib import Path
from srr_core.pipeline import compress
from tests.srr_core.pipeline.test_compress import small
source, text, out = map(Path, sys.argv[1:])
compress(source, small(), out, calibration_text=text)
"""


def test_a_killed_process_leaves_work_that_ends_with_the_same_bits(tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, small(), tmp_path / "whole", calibration_text=text)
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(source), str(text), str(out)])
    layers = tmp_path / "out.partial" / "layers"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and len(list(layers.glob("*.json"))) < 2:
        time.sleep(0.005)
    process.kill()
    process.wait()

    if not out.exists():
        compress(source, small(), out, calibration_text=text)

    assert _same(tmp_path / "whole", out)
