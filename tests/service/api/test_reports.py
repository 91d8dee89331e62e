"""The report of a job, in the format the client prefers."""

import pytest
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from service.api.reports import preferred
from service.jobs.memory_store import MemoryJobStore
from service.jobs.report_words import report_document
from srr_core.telling.document import to_markdown
from tests.service import finished


def test_the_report_is_the_document_the_worker_wrote(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    response = http.get(f"/v1/jobs/{job.id}/report")

    assert response.json() == finished.report().model_dump(mode="json")
    assert response.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "text/html"),
        ("text/markdown", "text/markdown"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_the_format_is_negotiated(http: TestClient, job_store: MemoryJobStore, accept: str, media_type: str) -> None:
    job = finished.succeeded(job_store)

    response = http.get(f"/v1/jobs/{job.id}/report", headers={"Accept": accept})

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media_type)


def test_a_format_we_do_not_have_is_not_acceptable(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    response = http.get(f"/v1/jobs/{job.id}/report", headers={"Accept": "image/png"})

    assert (response.status_code, response.json()["code"]) == (406, "not_acceptable")


def test_a_report_before_the_end_is_a_conflict(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)

    response = http.get(f"/v1/jobs/{job.id}/report")

    assert (response.status_code, response.json()["code"]) == (409, "report_not_ready")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json;q=0.1, text/html", "html"),
        ("text/html;q=0, */*", "json"),
        ("text/html;q=nonsense, text/markdown", "markdown"),
        ("", "json"),
    ],
)
def test_qualities_decide(accept: str, expected: str) -> None:
    assert preferred(accept) == expected


def test_everything_refused_is_not_acceptable() -> None:
    with pytest.raises(HTTPException) as refused:
        preferred("text/html;q=0")

    assert refused.value.status_code == 406


def test_markdown_has_the_numbers_and_keeps_names_in_their_cells() -> None:
    text = to_markdown(report_document(finished.report(layer_name="a|b <script>\n# x")))

    assert "| token_perplexity@32 | 37.000 | 38.500 | 124 | lower |" in text
    assert "| a\\|b &lt;script> # x | 64 × 32 | 8 | 3 | 0.0625 | 0.5000 | 9.250 |" in text
