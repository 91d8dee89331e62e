"""What report.json says of a run."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from srr_core.pipeline import compress
from srr_core.recipe import Recipe
from tests.pico import build_checkpoint, write_text
from tests.srr_core.pipeline.test_compress import small


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "source")


def test_the_report_follows_its_contract(tmp_path: Path, text: Path, source: Path) -> None:
    compress(source, small(), tmp_path / "out", calibration_text=text, evaluation_text=text, revision="c0ffee")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["schema_version"] == 2
    assert report["source"]["sha"] == "c0ffee"
    assert {"quantized", "low_rank", "total"} <= set(report["bits_per_weight"])
    assert set(report["size_bytes"]) == {"source", "compressed"}
    wanted = (
        "name shape rank preserved_rank output_error output_error_quantized_only scaled_error correction_ratio seconds"
    )
    assert set(wanted.split()) <= set(report["layers"][0])
    said = {"metric", "unit", "direction", "protocol", "source", "compressed", "difference", "standard_error", "tokens"}
    assert all(said <= set(row) for row in report["measurements"])
    assert [row["metric"].partition("@")[0] for row in report["measurements"]] == [
        "divergence",
        "top1_agreement",
        "token_perplexity",
    ]
    assert report["environment"]["core_version"]
    assert list(report["seconds"]) == ["plan", "compress", "calibrate", "assemble", "verify", "evaluate"]
    decomposing = sum(layer["seconds"] for layer in report["layers"])
    assert decomposing <= report["seconds"]["compress"] + 1e-3
    assert Recipe.model_validate(report["recipe"]) == small()
    assert json.loads((tmp_path / "out" / "recipe.json").read_text()) == report["recipe"]


def test_reported_bytes_are_those_on_disk(tmp_path: Path, text: Path, source: Path) -> None:
    report = compress(source, small(), tmp_path / "out", calibration_text=text)
    files = sum(t.nbytes for file in (tmp_path / "out").glob("*.safetensors") for t in load_file(file).values())
    assert report.size_bytes.compressed == files
