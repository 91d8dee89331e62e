"""A run stopped at any layer goes on from there and ends with the same bits."""

import subprocess
import sys
from pathlib import Path

import pytest

from srr_core.__main__ import main
from srr_core.errors import DestinationError, ResumeMismatchError, StopRequested, StorageError
from srr_core.pipeline import compress
from srr_core.report import Report
from srr_core.types import Progress
from tests.pico import build_checkpoint, write_text
from tests.srr_core.pipeline.test_compress import small

WEIGHTS = ("model-00001-of-00001.safetensors", "adapter_model.safetensors", "config.json", "recipe.json")


def same(first: Path, second: Path) -> bool:
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

    assert same(whole, tmp_path / "out")
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


def test_work_of_another_configuration_is_not_mixed_with_the_new_one(tmp_path: Path, text: Path, source: Path) -> None:
    told: list[Progress] = []
    with pytest.raises(StopRequested):
        compress(
            source,
            small(),
            tmp_path / "out",
            calibration_text=text,
            on_progress=told.append,
            should_stop=lambda: any(one.layer for one in told),
        )
    config = source / "config.json"
    config.write_text(config.read_text().replace('"silu"', '"gelu"'))
    with pytest.raises(ResumeMismatchError, match="configuration"):
        compress(source, small(), tmp_path / "out", calibration_text=text)


KILLED = """
import sys
from pathlib import Path
from srr_core.pipeline import compress
from tests.srr_core.pipeline.test_compress import small
source, text, out = map(Path, sys.argv[1:])

def say(progress):
    if progress.layer:
        print(progress.layer, flush=True)
        sys.stdin.readline()  # the next layer waits until it is asked for

compress(source, small(), out, calibration_text=text, on_progress=say)
"""


def test_a_killed_process_leaves_work_that_ends_with_the_same_bits(tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, small(), tmp_path / "whole", calibration_text=text)
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(source), str(text), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        first = process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
        second = process.stdout.readline()
        process.kill()
    assert first != second != ""
    assert len(list((tmp_path / "out.partial" / "layers").glob("*.json"))) == 2

    compress(source, small(), out, calibration_text=text)

    assert same(tmp_path / "whole", out)


def test_a_second_run_beside_the_first_is_refused_and_the_first_ends_as_if_alone(
    tmp_path: Path, text: Path, source: Path
) -> None:
    compress(source, small(), tmp_path / "whole", calibration_text=text)
    refused: list[str] = []

    def run_another(progress: Progress) -> None:
        if progress.layer is None or refused:
            return
        with pytest.raises(DestinationError, match="in use by another run") as caught:
            compress(source, small(), tmp_path / "out", calibration_text=text)
        refused.append(str(caught.value))

    compress(source, small(), tmp_path / "out", calibration_text=text, on_progress=run_another)

    assert len(refused) == 1
    assert same(tmp_path / "whole", tmp_path / "out")


def test_what_is_added_before_publishing_appears_with_the_rest_or_not_at_all(
    tmp_path: Path, text: Path, source: Path
) -> None:
    def add(artifact: Path, report: Report) -> None:
        assert not (tmp_path / "out").exists()
        (artifact / "README.md").write_text(report.source.id)

    def fail(_artifact: Path, _report: Report) -> None:
        raise OSError("no space left")

    with pytest.raises(StorageError, match="no space left"):
        compress(source, small(), tmp_path / "out", calibration_text=text, before_publish=fail)
    assert not (tmp_path / "out").exists()

    compress(source, small(), tmp_path / "out", calibration_text=text, before_publish=add)

    assert (tmp_path / "out" / "README.md").read_text() == "source"


SHORT = ("calibration.num_sequences=2", "calibration.sequence_length=16", "evaluation=null", "rank=4")


def test_the_module_runs_a_recipe_with_fields_replaced(
    tmp_path: Path, text: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(source), str(tmp_path / "out"), "srr", str(text), "--device", "cpu", "--seed", "7"]

    assert main([*given, *(word for field in SHORT for word in ("--set", field))]) == 0

    report = Report.model_validate_json(capsys.readouterr().out)
    assert (report.recipe.rank, report.recipe.seed, report.recipe.calibration.num_sequences) == (4, 7, 2)
    assert main([*given, "--set", "rank"]) == 2
    assert "'rank' is not PATH=VALUE" in capsys.readouterr().err


def test_the_module_says_after_an_interrupt_that_the_work_is_kept(
    tmp_path: Path, text: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("srr_core.__main__.compress", interrupted)

    assert main([str(source), str(tmp_path / "out"), "srr", str(text)]) == 130
    assert "the same command goes on" in capsys.readouterr().err
