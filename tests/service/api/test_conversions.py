"""Conversions over REST: what is asked for, what is refused with what would do, what comes back."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from srr_core.report import Report
from tests.service import finished
from tests.service.models import artifact_files
from tests.srr_core.telling import reports
from worker.folder_hub import FolderHub

BODY: dict[str, Any] = {
    "kind": "convert",
    "source": {"model_id": "org/model-srr"},
    "target": "gguf",
    "destination": {"repo_id": "org/model-srr-gguf"},
}


def give(hub: FolderHub, folder: Path, report: Report | None, name: str = "org/model-srr", **config: object) -> None:
    """Put an artifact with a report into the hub."""
    folder.mkdir()
    stored = None if report is None else report.model_dump(mode="json")
    for file, content in artifact_files(report=stored, **config).items():
        (folder / file).write_bytes(content)
    hub.import_model(folder, name)


def test_a_conversion_is_accepted_and_pinned_to_a_commit(http: TestClient, hub: FolderHub, tmp_path: Path) -> None:
    give(hub, tmp_path / "artifact", reports.report())

    job = http.post("/v1/jobs", json=BODY).json()

    assert (job["kind"], job["recipe"], job["destination"]["repo_id"]) == ("convert", None, "org/model-srr-gguf")
    assert job["work"]["target"] == {"kind": "gguf", "merged": "auto", "allow_inexact": False}
    assert len(job["work"]["source"]["sha"]) == 40
    assert http.post("/v1/jobs", json=BODY).json()["id"] == job["id"]
    other = http.post("/v1/jobs", json={**BODY, "target": {"kind": "gguf", "merged": "q8_0"}}).json()
    assert other["id"] != job["id"]


@pytest.mark.parametrize(
    ("target", "changes", "config", "words"),
    [
        ("gptq", {"is_stock": False}, {}, "takes plain linear layers only"),
        ("gptq", {}, {}, "takes groups of 32, 64 or 128, not 16. Convert it to merged instead"),
        ("gguf", {}, {"rope_scaling": {"rope_type": "yarn"}}, "rotary embeddings of type yarn are not exported"),
        ({"kind": "gguf", "merged": "none"}, {}, {}, "merged=auto writes one rounded file"),
    ],
)
def test_a_format_it_cannot_have_is_refused_with_what_would_do(
    http: TestClient, hub: FolderHub, tmp_path: Path, target: Any, changes: Any, config: Any, words: str
) -> None:
    made = reports.report(**changes)
    quantizer = made.recipe.quantizer.model_copy(update={"block_size": 32 if changes else 16, "num_bits": 4})
    made = made.model_copy(update={"recipe": made.recipe.model_copy(update={"quantizer": quantizer})})
    give(hub, tmp_path / "artifact", made, **config)

    response = http.post("/v1/jobs", json={**BODY, "target": target})

    assert response.status_code == 422
    problem = response.json()
    assert words in problem["detail"]
    assert problem["errors"][0]["field"] == "body.target"
    assert http.post("/v1/jobs", json={**BODY, "target": "merged"}).status_code == 202


@pytest.mark.usefixtures("org_model")
@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"target": "onnx"}, "body.target", ""),
        ({"target": "adapter"}, "body.target", ""),
        ({"target": {"kind": "merged", "dtype": "int8"}}, "body.target", ""),
        ({"destination": None}, "body.destination", ""),
        ({"source": {"model_id": "org/model"}}, "body.source.model_id", "no artifact of this service"),
        ({"source": {"model_id": "org/absent"}}, "body.source.model_id", "org/absent"),
    ],
)
def test_what_cannot_work_is_refused_with_its_field(
    http: TestClient, changes: dict[str, Any], field: str, words: str
) -> None:
    response = http.post("/v1/jobs", json={**BODY, **changes})

    assert response.status_code == 422
    assert words in response.json()["detail"]
    assert response.json()["errors"][0]["field"].startswith(field)


def test_the_report_is_served_in_every_form(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.converted(job_store)

    document = http.get(f"/v1/jobs/{job.id}/report").json()
    markdown = http.get(f"/v1/jobs/{job.id}/report?format=markdown").text
    page = http.get(f"/v1/jobs/{job.id}/report?format=html").text

    assert document["target"]["kind"] == "gguf"
    assert "| model.gguf | 7.0 MiB |" in markdown
    assert "model.gguf" in page
    assert "7.0 MiB" in page
