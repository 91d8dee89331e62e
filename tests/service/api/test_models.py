"""Looking at a model and validating a submission, against a real folder hub."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from tests.service import finished
from worker.folder_hub import FolderHub

BODY = {
    "source": {"model_id": "org/model"},
    "recipe": {"name": "srr", "rank": 16},
    "destination": {"repo_id": "me/out"},
}


@pytest.fixture
def hub(hub_dir: Path, tiny_llama: Path) -> FolderHub:
    """A folder hub that holds the demo model as org/model."""
    hub = FolderHub(hub_dir)
    hub.import_model(tiny_llama, "org/model")
    return hub


def folder(path: Path, config: dict[str, object], **files: str) -> Path:
    """Write a model folder without weights."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, content in files.items():
        (path / name).write_text(content, encoding="utf-8")
    return path


def test_a_model_is_described_without_reading_a_weight(http: TestClient, hub: FolderHub, tiny_llama: Path) -> None:
    model = http.post("/v1/models:inspect", json={"model_id": "org/model"}).json()

    assert model["sha"] == hub.resolve("org/model").sha
    assert model["architectures"] == ["LlamaForCausalLM"]
    assert model["weight_bytes"] == sum(file.stat().st_size for file in tiny_llama.glob("*.safetensors"))
    assert model["dtypes"] == {"BF16": model["parameters"]}
    assert model["problems"] == []
    files = list(tiny_llama.glob("*.safetensors"))
    assert model["header_bytes"] == sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in files)


def test_an_unknown_model_and_revision_are_not_found(http: TestClient, hub: FolderHub) -> None:
    model = http.post("/v1/models:inspect", json={"model_id": "org/none"})
    revision = http.post("/v1/models:inspect", json={"model_id": "org/model", "revision": "v9"})

    assert (model.status_code, model.json()["code"]) == (404, "model_not_found")
    assert (revision.status_code, revision.json()["code"]) == (404, "revision_not_found")


def test_a_good_submission_is_valid_and_changes_nothing(
    http: TestClient, hub: FolderHub, job_store: MemoryJobStore
) -> None:
    answer = http.post("/v1/jobs:validate", json=BODY).json()

    assert answer["valid"] is True
    assert answer["problems"] == []
    assert answer["destination_private"] is False
    assert job_store.list(JobFilter(), limit=1).jobs == ()
    assert not hub.repository("me/out").exists


def test_the_estimate_follows_from_the_shapes(http: TestClient, hub: FolderHub) -> None:
    answer = http.post("/v1/jobs:validate", json=BODY).json()

    estimate, model = answer["estimate"], answer["model"]
    # 6 blocks of 7 matrices; rank 16 on matrices this small costs about as much as 2 bits.
    assert estimate["layers"] == 42
    assert 4.5 < estimate["bits_per_weight"] < 5.5
    assert estimate["artifact_bytes"] < model["weight_bytes"]
    assert estimate["seconds"] is None


def test_the_time_is_estimated_from_earlier_jobs(http: TestClient, hub: FolderHub, job_store: MemoryJobStore) -> None:
    finished.succeeded(job_store)
    report = finished.report()

    answer = http.post("/v1/jobs:validate", json=BODY).json()

    seconds_per_byte = sum(report.seconds.values()) / report.size_bytes.source
    assert answer["estimate"]["seconds"] == pytest.approx(seconds_per_byte * answer["model"]["weight_bytes"])


def test_the_runtimes_that_load_the_result_are_named(http: TestClient, hub: FolderHub) -> None:
    rows = http.post("/v1/jobs:validate", json=BODY).json()["compatibility"]

    assert any(row["verdict"] == "yes" and row["evidence"] == "run" for row in rows)
    assert all(row["reason"] for row in rows)


def test_a_runtime_that_does_not_know_the_architecture_is_a_no(
    http: TestClient, hub: FolderHub, tmp_path: Path
) -> None:
    hub.import_model(
        folder(tmp_path / "bert", {"architectures": ["BertForMaskedLM"]}, **{"model.bin": "x"}), "org/bert"
    )

    rows = http.post("/v1/jobs:validate", json={**BODY, "source": {"model_id": "org/bert"}}).json()["compatibility"]

    (llama_cpp,) = [row for row in rows if row["runtime"].startswith("llama.cpp")]
    assert llama_cpp["verdict"] == "no"
    assert "not BertForMaskedLM" in llama_cpp["reason"]


def test_every_obstacle_is_named_at_once(http: TestClient, hub: FolderHub, tmp_path: Path) -> None:
    config = {"architectures": ["X"], "auto_map": {"AutoModel": "x.X"}, "quantization_config": {"quant_method": "awq"}}
    hub.import_model(folder(tmp_path / "odd", config, **{"model.bin": "pickle"}), "org/odd")
    hub.import_model(folder(tmp_path / "taken", {}, **{"README.md": "mine"}), "me/taken")

    answer = http.post(
        "/v1/jobs:validate",
        json={"source": {"model_id": "org/odd"}, "destination": {"repo_id": "me/taken"}},
    ).json()

    assert answer["valid"] is False
    assert [problem["code"] for problem in answer["problems"]] == [
        "needs_remote_code",
        "unsupported_model",
        "destination_conflict",
    ]


def test_an_unknown_model_is_a_problem_of_the_submission(http: TestClient, hub: FolderHub) -> None:
    answer = http.post("/v1/jobs:validate", json={**BODY, "source": {"model_id": "org/none"}})

    assert answer.status_code == 200
    assert [problem["code"] for problem in answer.json()["problems"]] == ["model_not_found"]
