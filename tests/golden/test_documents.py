"""Every document of an earlier version is read: report, recipe, REST answer, and the artifact itself."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from service.api.schemas import JobResource
from srr_core.recipe import Recipe
from srr_core.recipe.upgrade import read_recipe
from srr_core.report import read_report
from srr_core.runtime import load

VERSIONS = sorted(path for path in Path(__file__).parent.iterdir() if path.name.startswith("v"))


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest) -> Path:
    """The documents of one version."""
    folder: Path = request.param
    return folder


def test_the_recipe_is_read(folder: Path) -> None:
    recipe = read_recipe(json.loads((folder / "recipe.json").read_text()))

    assert (recipe.name, recipe.rank, recipe.quantization_bits) == ("srr", 4, 3)


def test_the_report_is_read(folder: Path) -> None:
    report = read_report(json.loads((folder / "report.json").read_text()))

    assert report.source.id == "acme/pico"
    assert report.recipe == read_recipe(json.loads((folder / "recipe.json").read_text()))
    assert len(report.layers) == 14
    assert [(row.metric, row.direction, round(row.compressed, 3), row.tokens) for row in report.measurements] == [
        ("token_perplexity@32", "lower", 263.522, 62)
    ]


def test_a_newer_report_is_read_as_far_as_it_is_known(folder: Path) -> None:
    stored = json.loads((folder / "report.json").read_text())
    known = read_report(stored).model_dump(mode="json")
    newer = {**known, "schema_version": 9, "energy": 1, "recipe": {**known["recipe"], "speed": "high"}}
    newer["layers"] = [{**layer, "colour": "red"} for layer in known["layers"]]
    newer["measurements"] = [{**row, "smell": "sweet"} for row in known["measurements"]]

    assert read_report(newer) == read_report(stored)


def test_a_stored_recipe_without_what_came_later_takes_the_default(folder: Path) -> None:
    stored = json.loads((folder / "recipe.json").read_text())
    del stored["keep_best"], stored["sketch"]

    assert read_recipe(stored).keep_best is Recipe().keep_best


def test_the_answer_of_the_api_is_read_by_the_client(folder: Path) -> None:
    resource = JobResource.model_validate_json((folder / "resource.json").read_bytes(), extra="ignore")

    assert (resource.kind, resource.state, resource.recipe.rank) == ("compress", "succeeded", 4)


def test_the_artifact_loads_and_computes(folder: Path) -> None:
    artifact = folder / "artifact"
    model = load(artifact)
    tokens = AutoTokenizer.from_pretrained(artifact)("the river carries the letter.", return_tensors="pt")

    with torch.no_grad():
        logits = model(**tokens).logits

    assert torch.isfinite(logits).all()
