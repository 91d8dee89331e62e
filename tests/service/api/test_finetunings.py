"""Fine-tunings over REST: what is asked for, what is refused, what comes back."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.workers import WorkerRegistry
from tests.service import finished
from tests.service.models import write_tuned
from tests.service.submissions.test_preflight import beat
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.usefixtures("org_model")
BODY: dict[str, Any] = {
    "kind": "finetune",
    "source": {"model_id": "org/model"},
    "destination": {"repo_id": "org/model-tuned"},
    "data": {"text": finished.ROWS},
    "tuning": {"start": "srr", "task": "instructions", "rank": 4, "schedule": {"epochs": 2}},
}


def test_a_fine_tuning_is_accepted_with_every_auto_resolved(
    http: TestClient, org_model: str, job_store: MemoryJobStore
) -> None:
    response = http.post("/v1/jobs", json=BODY)

    assert response.status_code == 202
    job = response.json()
    assert (job["kind"], job["recipe"], job["destination"]["repo_id"]) == ("finetune", None, "org/model-tuned")
    work = job["work"]
    assert work["source"]["sha"] == org_model
    assert (work["tuning"]["start"]["recipe"]["name"], work["tuning"]["start"]["recipe"]["rank"]) == ("srr", 4)
    assert (work["tuning"]["task"]["kind"], work["tuning"]["schedule"]["epochs"]) == ("instructions", 2)
    assert work["tuning"]["optimizer"]["learning_rate"] == 2e-4
    assert work["data"]["text"] is None
    assert job_store.text(work["data"]["sha256"]) == finished.ROWS


def test_the_same_rows_and_fields_are_the_same_job(http: TestClient) -> None:
    first, again = (http.post("/v1/jobs", json=BODY).json()["id"] for _ in range(2))
    other_rows = http.post("/v1/jobs", json={**BODY, "data": {"text": finished.ROWS * 2}}).json()["id"]
    other_rank = http.post("/v1/jobs", json={**BODY, "tuning": {**BODY["tuning"], "rank": 8}}).json()["id"]

    assert first == again
    assert len({first, other_rows, other_rank}) == 3


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"recipe": "srr"}, "invalid_request", "body.recipe"),
        ({"data": None}, "invalid_request", "body.data"),
        ({"data": {}}, "invalid_request", "body.data"),
        ({"neutral": {}}, "invalid_request", "body.neutral"),
        ({"data": {"dataset": "org/rows", "revision": "main", "path": "a.jsonl"}}, "invalid_request", "revision"),
        ({"data": {"dataset": "org/rows", "revision": "a" * 40, "path": "../a.jsonl"}}, "invalid_request", "path"),
        ({"data": {"text": "x", "sha256": "a" * 64}}, "invalid_job", ""),
        ({"destination": None}, "invalid_request", "body.destination"),
        ({"tuning": {"start": "srrr"}}, "invalid_request", "body.tuning"),
        ({"tuning": {"task": "glue:none"}}, "invalid_request", "body.tuning"),
        ({"tuning": {"optimiser": {}}}, "invalid_request", "body.tuning.optimiser"),
        ({"tuning": {"start": "srr", "rank": 0}}, "invalid_request", "body.tuning"),
        (
            {"tuning": {"start": "artifact"}, "data": {"text": "Words.", "format": "text"}},
            "unsupported_model",
            "source",
        ),
        ({"source": {"model_id": "org/absent"}}, "model_not_found", "body.source.model_id"),
        ({"destination": {"repo_id": "org/model"}}, "invalid_job", ""),
    ],
)
def test_what_cannot_work_is_refused_with_its_field(
    http: TestClient, changes: dict[str, object], code: str, field: str
) -> None:
    response = http.post("/v1/jobs", json={**BODY, **changes})

    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == code
    assert any(field in error["field"] for error in problem["errors"]) or not field


def test_rows_that_cannot_be_learned_are_refused_by_their_number(http: TestClient) -> None:
    text = finished.ROWS + '{"prompt": "only"}\n'

    problem = http.post("/v1/jobs", json={**BODY, "data": {"text": text}}).json()

    assert problem["code"] == "invalid_training_data"
    assert "row 3" in problem["detail"]


def test_uploaded_rows_are_looked_at_like_those_that_come_along(http: TestClient, job_store: MemoryJobStore) -> None:
    rows, others = (
        http.post("/v1/texts", content=text.encode()).json()["sha256"]
        for text in (finished.ROWS, finished.ROWS + '{"prompt": "only"}\n')
    )
    named, broken = {**BODY, "data": {"sha256": rows}}, {**BODY, "data": {"sha256": others}}

    shown = http.post("/v1/jobs:validate", json=named).json()
    job = http.post("/v1/jobs", json=named)
    brought = http.post("/v1/jobs", json=BODY)
    refused = [http.post(path, json=broken).json() for path in ("/v1/jobs", "/v1/jobs:validate")]
    judged = http.post("/v1/jobs", json={**named, "validation": {"sha256": others}}).json()

    assert (shown["valid"], shown["data"]["rows"]) == (True, 2)
    assert (job.status_code, job.json()["work"]["data"]["sha256"]) == (202, rows)
    assert brought.json()["id"] == job.json()["id"]  # the same rows, however they came
    assert "row 3" in refused[0]["detail"]
    assert [problem["code"] for problem in refused[1]["problems"]] == ["invalid_training_data"]
    assert [error["field"] for error in judged["errors"]] == ["body.validation"]


@pytest.mark.parametrize("field", ["data", "validation", "calibration", "neutral"])
def test_a_text_that_was_not_uploaded_is_refused_once_and_by_its_field(http: TestClient, field: str) -> None:
    body = {**BODY, field: {"sha256": "0" * 64}}

    refused, validation = (http.post(path, json=body).json() for path in ("/v1/jobs", "/v1/jobs:validate"))

    assert refused["code"] == "text_not_found"
    assert [error["field"] for error in refused["errors"]] == [f"body.{field}"]
    assert [problem["code"] for problem in validation["problems"]] == ["text_not_found"]


def test_a_validation_shows_what_would_be_learned(http: TestClient) -> None:
    answer = http.post("/v1/jobs:validate", json=BODY).json()

    assert answer["valid"]
    assert (answer["data"]["rows"], answer["data"]["columns"]) == (2, ["prompt", "completion"])
    pieces = answer["data"]["previews"][0]["pieces"]
    assert [(piece["text"], piece["is_trained"]) for piece in pieces] == [("say 1", False), ("well", True)]


def test_a_validation_says_what_it_would_take(http: TestClient, workers: WorkerRegistry) -> None:
    beat(workers, operations_per_second=1e9)

    known = http.post("/v1/jobs:validate", json=BODY).json()["training"]

    # Rank 4 on two layers of 32 x 32 and two of 64 x 32; of two rows one is held out, in two epochs.
    assert (known["layers"], known["trained_parameters"]) == (4, 2 * 4 * (32 + 32) + 2 * 4 * (64 + 32))
    assert (known["steps"], known["trainings"]) == (2, 1)
    assert known["memory_bytes"] > known["base_bytes"] + 16 * known["trained_parameters"]
    assert known["seconds"] > known["operations"] / 1e9


def test_time_follows_from_earlier_fine_tunings_of_the_model(http: TestClient, job_store: MemoryJobStore) -> None:
    unknown = http.post("/v1/jobs:validate", json=BODY).json()["training"]
    job = finished.tuned(job_store)
    done = [row for cell in finished.tuning().cells for row in cell.rows]

    training = http.post("/v1/jobs:validate", json=BODY).json()["training"]

    assert (unknown["seconds"], unknown["gpu_minutes"], unknown["tokens_per_second"]) == (None, None, None)
    assert job.work.source.model_id == BODY["source"]["model_id"]
    assert training["tokens_per_second"] == pytest.approx(
        sum(row.tokens for row in done) / sum(row.seconds for row in done)
    )
    assert training["seconds"] > training["tokens"] / training["tokens_per_second"]


def test_a_base_that_no_worker_can_hold_is_refused(http: TestClient, workers: WorkerRegistry) -> None:
    beat(workers, host_memory_bytes=10**8)

    problems = http.post("/v1/jobs:validate", json=BODY).json()["problems"]

    assert [problem["code"] for problem in problems] == ["exceeds_capacity"]


def test_the_report_is_served_in_every_form(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.tuned(job_store)

    document = http.get(f"/v1/jobs/{job.id}/report").json()
    assert document["scores"] == {"loss": 2.125}
    page = http.get(f"/v1/jobs/{job.id}/report", params={"format": "html"}).text
    assert "2.1250" in page
    assert "<polyline" in page
    markdown = http.get(f"/v1/jobs/{job.id}/report", params={"format": "markdown"}).text
    assert "# org/model, fine-tuned" in markdown
    assert "| loss | 2.3750 | 2.1250 |" in markdown


def test_a_dataset_of_the_hub_is_left_to_the_worker(http: TestClient) -> None:
    data = {"dataset": "org/rows", "revision": "a" * 40, "path": "train/rows.parquet"}

    job = http.post("/v1/jobs", json={**BODY, "data": data}).json()

    assert job["work"]["data"] == data


def test_the_series_and_checkpoints_of_a_running_training_are_served(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    job = finished.training(job_store)

    metrics = http.get(f"/v1/jobs/{job.id}/metrics").json()
    checkpoints = http.get(f"/v1/jobs/{job.id}/checkpoints").json()

    assert (metrics["steps"], metrics["trainings"]) == (2, 2)
    (cell,) = metrics["cells"]
    assert (cell["cell"], cell["learning_rate"]) == (0, 1e-4)
    assert cell["training"] == [
        {"step": 1, "merged": 1, "values": {"loss": 2.5, "learning_rate": 1e-4, "tokens_per_second": 321.0}}
    ]
    assert cell["validation"] == [{"step": 1, "merged": 1, "values": {"validation_loss": 2.25}}]
    assert checkpoints == {
        "checkpoints": [{"cell": 0, "step": 1, "num_bytes": 2_097_152, "scores": {"loss": 2.25}, "is_best": True}],
        "kept": [],
    }


def test_a_job_that_trains_nothing_has_no_series(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    assert http.get(f"/v1/jobs/{job.id}/metrics").json() == {"steps": 0, "trainings": 0, "cells": []}
    assert http.get(f"/v1/jobs/{job.id}/checkpoints").json() == {"checkpoints": [], "kept": []}


@pytest.fixture
def published(hub: FolderHub, tmp_path: Path) -> str:
    """What the fine-tuning of `finished.tuned` left behind, with a checkpoint after its first step; its commit."""
    return hub.import_model(write_tuned(tmp_path / "tuned", kept=1), "org/model-tuned")


def test_a_kept_checkpoint_is_published_by_a_job_of_no_steps(
    http: TestClient, job_store: MemoryJobStore, published: str
) -> None:
    job = finished.tuned(job_store, kept=(1,), sha=published)
    path = f"/v1/jobs/{job.id}/checkpoints"

    listed = http.get(path).json()
    response = http.post(f"{path}/1/publish", json={"destination": {"repo_id": "org/first-step"}})

    assert listed["kept"] == [1]
    assert response.status_code == 202, response.text
    work = response.json()["work"]
    assert (work["source"]["model_id"], work["source"]["sha"]) == ("org/model-tuned", published)
    assert work["tuning"]["start"] == {"kind": "artifact", "checkpoint": 1}
    assert (work["tuning"]["schedule"]["max_steps"], work["destination"]["repo_id"]) == (0, "org/first-step")
    assert job_store.text(work["data"]["sha256"]) == finished.ROWS


def test_a_checkpoint_of_a_merged_result_is_published_merged(
    http: TestClient, job_store: MemoryJobStore, published: str
) -> None:
    job = finished.tuned(job_store, kept=(1,), sha=published, result="merged")

    response = http.post(
        f"/v1/jobs/{job.id}/checkpoints/1/publish", json={"destination": {"repo_id": "org/first-step"}}
    )

    assert response.status_code == 202, response.text
    assert response.json()["work"]["tuning"]["result"]["kind"] == "merged"


def test_a_merged_result_goes_on_from_a_checkpoint_alone(http: TestClient, published: str) -> None:
    start: dict[str, Any] = {"kind": "artifact"}
    names = {"source": {"model_id": "org/model-tuned"}, "destination": {"repo_id": "org/model-further"}}
    body = {**BODY, **names}

    merged, kept = (
        http.post("/v1/jobs:validate", json={**body, "tuning": {"start": start | step, "task": "instructions"}}).json()
        for step in ({}, {"checkpoint": 1})
    )

    assert "start.checkpoint, which may be 1" in merged["problems"][0]["message"]
    assert kept["problems"] == []


def test_a_checkpoint_that_was_not_kept_is_refused_with_what_would_keep_it(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    done, waiting = finished.tuned(job_store), finished.training(job_store)
    body = {"destination": {"repo_id": "org/first-step"}}

    answers = [http.post(f"/v1/jobs/{job.id}/checkpoints/1/publish", json=body) for job in (done, waiting)]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert all("checkpoints.publish is true" in answer.json()["detail"] for answer in answers)


def test_fine_tunings_are_compared_by_what_they_have_come_to(http: TestClient, job_store: MemoryJobStore) -> None:
    done, going, other = finished.tuned(job_store), finished.training(job_store), finished.succeeded(job_store)

    runs = http.get("/v1/jobs:compare", params={"job": [going.id, done.id]}).json()["runs"]

    assert [run["job_id"] for run in runs] == [going.id, done.id]
    assert [(run["metric"], run["best"], run["best_step"]) for run in runs] == [("loss", 2.25, 1), ("loss", 2.125, 2)]
    assert [(run["learning_rate"], run["bits"], run["rank"]) for run in runs] == [(1e-4, 3.25, 32), (3e-4, 3.25, 32)]
    assert runs[0]["data_sha256"] == runs[1]["data_sha256"] == finished.tuning().data.sha256
    refused = http.get("/v1/jobs:compare", params={"job": other.id})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_job")
