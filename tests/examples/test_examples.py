"""What ships with the package is enough to calibrate on, to measure with, and safe to load."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from examples import CALIBRATION_TEXT, DEMO_MODEL, EVALUATION_TEXT

WINDOW_TOKENS = 256
PROMISED_WINDOWS = 200
TEXTS = [pytest.param(path, id=path.stem) for path in (CALIBRATION_TEXT, EVALUATION_TEXT)]


@pytest.mark.parametrize("path", TEXTS)
def test_a_text_has_the_promised_windows(path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))

    tokens = tokenizer.encode(path.read_text(encoding="utf-8")).ids

    assert len(tokens) // WINDOW_TOKENS >= PROMISED_WINDOWS


@pytest.mark.parametrize("path", TEXTS)
def test_a_text_ends_with_a_whole_line(path: Path) -> None:
    assert path.read_text(encoding="utf-8").endswith("\n")


def test_the_texts_do_not_overlap() -> None:
    calibration, evaluation = (
        set(path.read_text(encoding="utf-8").splitlines()) for path in (CALIBRATION_TEXT, EVALUATION_TEXT)
    )

    assert {line for line in calibration & evaluation if len(line) > 80} == set()


def test_the_model_holds_safetensors_and_no_code() -> None:
    suffixes = {path.suffix for path in DEMO_MODEL.iterdir()}

    assert suffixes <= {".safetensors", ".json", ".md", ""}
    assert "auto_map" not in json.loads((DEMO_MODEL / "config.json").read_text(encoding="utf-8"))


def test_the_model_has_the_size_its_card_states() -> None:
    with safe_open(DEMO_MODEL / "model.safetensors", framework="pt") as file:
        sizes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  # not a dict

    parameters = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in sizes.values())

    assert parameters == pytest.approx(6.5e6, rel=0.01)
