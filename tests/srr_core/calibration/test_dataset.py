"""Text to windows: deterministic, complete, and refused when it cannot be used."""

import json
from pathlib import Path

import pytest
import torch

from srr_core.calibration.dataset import cut_windows, load_tokenizer
from srr_core.errors import CalibrationError, CheckpointError
from tests.pico import build_checkpoint, byte_tokenizer, write_text


def _cut(file: Path, *, num_sequences: int = 4, sequence_length: int = 16) -> torch.Tensor:
    return cut_windows(
        file,
        byte_tokenizer(),
        num_sequences=num_sequences,
        sequence_length=sequence_length,
        error=CalibrationError,
    ).ids


def test_windows_are_the_first_tokens_of_the_whole_text(tmp_path: Path) -> None:
    file = write_text(tmp_path / "text.txt")
    whole = byte_tokenizer()(file.read_text(encoding="utf-8"))["input_ids"]
    assert _cut(file).flatten().tolist() == whole[:64]


def test_fewer_windows_than_asked_for_are_all_that_fit(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("x" * 40, encoding="utf-8")
    assert _cut(file).shape == (2, 16)


@pytest.mark.parametrize("text", ["привет, мир! " * 20, "𝛼𝛽𝛾 " * 40, "\ufeffbom " * 40, "\0\0\n" * 40])
def test_any_utf_8_text_is_taken(text: str, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(text.encode())
    assert _cut(file).shape == (4, 16)


@pytest.mark.parametrize("text", ["", "\n", "short"])
def test_a_text_shorter_than_one_window_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CalibrationError, match="fewer than one window of 16"):
        _cut(file)


def test_bytes_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(b"good \xff\xfe bad")
    with pytest.raises(CalibrationError, match="not UTF-8"):
        _cut(file)


def test_a_missing_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"gone\.txt cannot be read"):
        _cut(tmp_path / "gone.txt")


def test_the_description_tells_texts_apart(tmp_path: Path) -> None:
    arguments = {"num_sequences": 2, "sequence_length": 16, "error": CalibrationError}
    first = cut_windows(write_text(tmp_path / "a.txt"), byte_tokenizer(), **arguments)  # type: ignore[arg-type]
    other = tmp_path / "b.txt"
    other.write_text("y" * 40, encoding="utf-8")
    second = cut_windows(other, byte_tokenizer(), **arguments)  # type: ignore[arg-type]
    assert first.describe().tokens == second.describe().tokens == 32
    assert first.describe().token_sha256 != second.describe().token_sha256


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_fails_at_its_first_word_is_refused(tmp_path: Path) -> None:
    build_checkpoint(tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": "64"}))

    with pytest.raises(CheckpointError, match="the tokenizer of 'model' cannot be loaded: '>' not supported"):
        load_tokenizer(tmp_path / "model")
