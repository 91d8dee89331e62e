"""`srr repair` as a user types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from srr_core.errors import RecipeError
from srr_core.pipeline import compress
from srr_core.recipe import override
from tests.pico import build_checkpoint, write_text
from tests.srr_core.pipeline.test_compress import small


def test_an_artifact_on_disk_is_repaired_into_a_folder_with_a_card(tmp_path: Path) -> None:
    source, text = build_checkpoint(tmp_path / "source"), write_text(tmp_path / "text.txt")
    recipe = override(small("gptq"), {"quantizer.grid": {"kind": "integer", "num_bits": 2, "group_size": 16}})
    compress(source, recipe, tmp_path / "plain", calibration_text=text)
    texts = ["--calibration-text", str(text), "--evaluation-text", str(text)]
    arguments = ["repair", str(tmp_path / "plain"), str(tmp_path / "out"), "--source", str(source), *texts]

    result = CliRunner().invoke(app, [*arguments, "--set", "num_sequences=12", "--set", "epochs=1"])

    assert result.exception is None
    assert "repair      held-out windows " in result.stdout
    assert result.stdout.endswith(f"written     {tmp_path / 'out'}\n")
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8").startswith("---\n")
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["repair"]["num_sequences"] == 12
    elsewhere = [str(tmp_path / "other") if one == str(tmp_path / "out") else one for one in arguments]
    with pytest.raises(RecipeError, match=r"repair\.nothing"):
        CliRunner().invoke(app, [*elsewhere, "--set", "nothing=1"], catch_exceptions=False)
