"""What is refused before it is queued, what is not, and what is left to the worker."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.hub.chosen import ConfiguredHubs
from service.hub.settings import HubSettings
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from service.jobs.workers import Worker, WorkerRegistry
from tests.hub_server.failures import Failure
from tests.hub_server.server import HubServer
from tests.service.models import model_files, write_model
from worker.folder_hub import FolderHub

BODY: Mapping[str, Any] = {"source": {"model_id": "org/model"}, "destination": {"repo_id": "me/out"}}
NO_DERIVATIVES = "---\nlicense: cc-by-nd-4.0\n---\n"


def source(model_id: str, revision: str = "main") -> dict[str, Any]:
    """Return a request to compress a model."""
    return {**BODY, "source": {"model_id": model_id, "revision": revision}}


def beat(workers: WorkerRegistry, **facts: Any) -> None:
    """Let a worker say what it has."""
    now = datetime.now(UTC)
    workers.beat(
        Worker(
            **{"name": "w1", "host": "h", "device": "cpu", "version": "1", "started_at": now, "seen_at": now, **facts}
        )
    )


@pytest.mark.usefixtures("org_model")
class TestFolderHub:
    """An installation whose hub is a folder."""

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (source("no/such"), 422, "model_not_found"),
            (source("org/model", "v9"), 422, "revision_not_found"),
            (source("org/taken"), 422, "no_safetensors"),
            (source("org/nd"), 422, "license_forbids_derivatives"),
            (source("org/code"), 422, "needs_remote_code"),
            (source("org/whisper"), 422, "unsupported_model"),
            (source("org/foobar"), 422, "unsupported_model"),
            (source("org/broken"), 422, "invalid_checkpoint"),
            (source("a--b/c"), 422, "invalid_repo_id"),
            ({**BODY, "destination": {"repo_id": "demo/x.git"}}, 422, "invalid_repo_id"),
            ({**BODY, "destination": {"repo_id": "a--b/c"}}, 422, "invalid_repo_id"),
            ({**BODY, "destination": {"repo_id": "org/taken"}}, 409, "destination_conflict"),
        ],
    )
    def test_a_job_that_would_fail_is_refused_as_validation_says(
        self,
        http: TestClient,
        hub: FolderHub,
        job_store: MemoryJobStore,
        tmp_path: Path,
        body: dict[str, Any],
        status: int,
        code: str,
    ) -> None:
        hub.import_model(write_model(tmp_path / "nd", card=NO_DERIVATIVES), "org/nd")
        hub.import_model(write_model(tmp_path / "code", architectures=["X"], auto_map={"AutoModel": "x.X"}), "org/code")
        hub.import_model(write_model(tmp_path / "whisper", architectures=["WhisperModel"]), "org/whisper")
        hub.import_model(write_model(tmp_path / "foobar", architectures=["FooBarForCausalLM"]), "org/foobar")
        broken, taken = write_model(tmp_path / "broken"), write_model(tmp_path / "taken")
        (broken / "model.safetensors").write_bytes(b"garbage")
        (taken / "model.safetensors").unlink()
        hub.import_model(broken, "org/broken")
        hub.import_model(taken, "org/taken")

        refused, validated = http.post("/v1/jobs", json=body), http.post("/v1/jobs:validate", json=body).json()

        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert refused.json()["detail"] == validated["problems"][0]["message"]
        assert not validated["valid"]
        assert job_store.list(JobFilter(), limit=1).jobs == ()

    def test_every_obstacle_is_listed_with_its_field_and_code(
        self, http: TestClient, hub: FolderHub, tmp_path: Path
    ) -> None:
        hub.import_model(write_model(tmp_path / "nd", card=NO_DERIVATIVES, architectures=["X"]), "org/nd")

        problem = http.post("/v1/jobs", json={**source("org/nd"), "destination": {"repo_id": "a--b/c"}}).json()

        assert [(error["field"], error["code"]) for error in problem["errors"]] == [
            ("body.destination.repo_id", "invalid_repo_id"),
            ("body.source.model_id", "license_forbids_derivatives"),
            ("body.source.model_id", "unsupported_model"),
        ]

    def test_a_missing_model_does_not_tell_of_others(self, http: TestClient) -> None:
        assert "org/model" not in http.post("/v1/jobs", json=source("no/such")).text

    def test_a_job_names_the_commit_it_was_checked_at(
        self, http: TestClient, hub: FolderHub, org_model: str, tmp_path: Path
    ) -> None:
        first = http.post("/v1/jobs", json=BODY).json()
        moved = hub.import_model(write_model(tmp_path / "second", hidden_size=64), "org/model")
        second = http.post("/v1/jobs", json=BODY).json()

        assert (first["source"]["sha"], second["source"]["sha"]) == (org_model, moved)
        assert first["id"] != second["id"]

    def test_a_model_no_worker_has_memory_or_disk_for_is_refused(
        self, http: TestClient, workers: WorkerRegistry
    ) -> None:
        beat(workers, host_memory_bytes=10**8, scratch_bytes=10**12)
        beat(workers, name="w2", host_memory_bytes=10**12, scratch_bytes=100)

        refused, validated = http.post("/v1/jobs", json=BODY), http.post("/v1/jobs:validate", json=BODY).json()

        assert (refused.status_code, refused.json()["code"]) == (422, "exceeds_capacity")
        assert "start a larger worker" in refused.json()["detail"]
        assert [problem["code"] for problem in validated["problems"]] == ["exceeds_capacity"]

    def test_one_worker_that_is_large_enough_or_says_nothing_suffices(
        self, http: TestClient, workers: WorkerRegistry
    ) -> None:
        beat(workers, device_memory_bytes=10**8, host_memory_bytes=10**12)
        beat(workers, name="w2")

        assert http.post("/v1/jobs", json=BODY).status_code == 202

    @pytest.mark.parametrize(("rank", "is_said"), [(0, False), (1024, True)])
    def test_a_result_that_would_be_no_smaller_is_told_before_the_work(
        self, http: TestClient, rank: int, is_said: bool
    ) -> None:
        recipe = {"name": "srr", "rank": rank, "quantizer": {"num_bits": 8}}
        answer = http.post("/v1/jobs:validate", json={**BODY, "recipe": recipe}).json()

        assert answer["valid"]
        assert (
            any("the result " in note.lower() and "the rank is too large" in note for note in answer["notes"])
            is is_said
        )

    def test_a_target_that_does_not_take_these_shapes_is_refused_with_what_would_do(self, http: TestClient) -> None:
        recipe = {"name": "srr", "target": "vllm", "quantizer": {"kind": "integer", "group_size": 128}}
        refused = http.post("/v1/jobs", json={**BODY, "recipe": recipe})

        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_recipe")
        assert "target vllm" in refused.json()["detail"]
        assert "quantizer.group_size=32" in refused.json()["detail"]

    def test_a_target_out_of_reach_is_refused_with_the_range(self, http: TestClient) -> None:
        def answered(**target: float) -> dict[str, Any]:
            body = {**BODY, "recipe": {"name": "srr-fast", "budget": target}}
            found: dict[str, Any] = http.post("/v1/jobs:validate", json=body).json()
            return found

        small, large, right = answered(target_bits=1.5), answered(target_size_bytes=10**9), answered(target_bits=3.0)

        assert [problem["code"] for problem in small["problems"] + large["problems"]] == ["invalid_recipe"] * 2
        assert "these choices reach 2." in small["problems"][0]["message"].lower()
        assert "in the source" in large["problems"][0]["message"]
        assert right["valid"]
        assert right["estimate"]["bits_per_weight"] == pytest.approx(3.0)
        assert not any("divergence" in note for note in right["notes"])
        assert any("the search finds out the size" in note for note in answered(target_kl=0.1)["notes"])

    @pytest.mark.parametrize(
        ("architecture", "budget", "words"),
        [
            ("T5ForConditionalGeneration", {"target_bits": 3.5}, "is an encoder-decoder"),
            ("BertModel", {"target_kl": 0.1}, "has no head that predicts tokens"),
        ],
    )
    def test_a_budget_that_cannot_be_spent_on_a_class_is_refused_before_queueing(
        self, http: TestClient, hub: FolderHub, tmp_path: Path, architecture: str, budget: dict[str, float], words: str
    ) -> None:
        hub.import_model(write_model(tmp_path / "model", architectures=[architecture]), "org/other")
        recipe = {"name": "gptq", "budget": budget}
        refused = http.post("/v1/jobs", json={**source("org/other"), "recipe": recipe})

        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_recipe")
        assert f"{architecture} {words}" in refused.json()["detail"]

    @pytest.mark.parametrize(("name", "is_said"), [("quip-sharp", True), ("gptq", False)])
    def test_a_result_that_no_server_takes_packed_is_told_before_the_work(
        self, http: TestClient, name: str, is_said: bool
    ) -> None:
        recipe = {"name": name} if name == "quip-sharp" else {"name": name, "quantizer": {"grid": {"group_size": 32}}}
        answer = http.post("/v1/jobs:validate", json={**BODY, "recipe": recipe}).json()

        assert any("No server takes this result packed" in note for note in answer["notes"]) is is_said

    def test_without_workers_the_estimate_says_what_it_cannot_know(self, http: TestClient) -> None:
        answer = http.post("/v1/jobs:validate", json=BODY).json()

        assert answer["valid"]
        assert any("No worker" in note for note in answer["notes"])
        assert answer["estimate"]["memory_bytes"] > 10**9
        assert answer["estimate"]["seconds"] is None
        assert answer["estimate"]["gpu_minutes"] is None

    def test_the_speed_of_the_fastest_worker_gives_a_time(self, http: TestClient, workers: WorkerRegistry) -> None:
        beat(workers, operations_per_second=1e9)
        beat(workers, name="w2", device="H100", device_memory_bytes=10**11, operations_per_second=1e12)

        estimate = http.post("/v1/jobs:validate", json=BODY).json()["estimate"]

        assert estimate["seconds"] == pytest.approx(estimate["operations"] / 5e11)
        assert estimate["gpu_minutes"] == pytest.approx(estimate["seconds"] / 60)


class TestHuggingFaceHub:
    """An installation that reads and writes the Hub."""

    @pytest.fixture
    def hubs(self, hub_server: HubServer, tmp_path: Path) -> ConfiguredHubs:
        """The Hub for sources and destinations."""
        where = {"source_hub": "huggingface", "destination_hub": "huggingface", "hub_url": hub_server.url}
        return ConfiguredHubs(HubSettings.model_validate(where), data_dir=tmp_path)

    @pytest.fixture
    def model(self, hub_server: HubServer) -> str:
        """A model on the Hub as org/model; returns its commit."""
        return hub_server.add_model("org/model", model_files(card="---\nlicense: mit\n---\n")).oid

    def test_two_requests_for_a_branch_are_one_job(self, http: TestClient, model: str) -> None:
        first, second = (http.post("/v1/jobs", json=BODY).json() for _ in range(2))

        assert first["id"] == second["id"]
        assert first["source"]["sha"] == model

    def test_whether_the_worker_may_write_is_not_known_without_a_token(self, http: TestClient, model: str) -> None:
        answer = http.post("/v1/jobs:validate", json=BODY).json()

        assert answer["valid"]
        assert answer["destination_writable"] is None
        assert any("worker's own token decides" in note for note in answer["notes"])
        assert http.post("/v1/jobs", json=BODY).status_code == 202

    def test_with_a_token_it_is_known(self, http: TestClient, model: str) -> None:
        mine = {**BODY, "destination": {"repo_id": "alice/out"}, "hub_token": "hf_alice"}
        foreign = {**mine, "destination": {"repo_id": "nobody/out"}}

        assert http.post("/v1/jobs:validate", json=mine).json()["destination_writable"] is True
        assert http.post("/v1/jobs", json=foreign).json()["code"] == "destination_forbidden"

    def test_a_repository_of_somebody_else_is_seen_without_a_token(
        self, http: TestClient, hub_server: HubServer, model: str
    ) -> None:
        hub_server.add_model("me/out", {"README.md": b"mine"})

        answer = http.post("/v1/jobs", json=BODY)

        assert (answer.status_code, answer.json()["code"]) == (409, "destination_conflict")

    def test_a_private_model_is_refused_where_nobody_has_a_token(
        self, http: TestClient, hub_server: HubServer, workers: WorkerRegistry
    ) -> None:
        hub_server.add_model("alice/secret", model_files(), private=True)
        beat(workers)

        answer = http.post("/v1/jobs", json=source("alice/secret"))

        assert (answer.status_code, answer.json()["code"]) == (422, "model_not_found")

    def test_what_a_workers_own_token_may_see_is_left_to_the_worker(
        self, http: TestClient, hub_server: HubServer, workers: WorkerRegistry
    ) -> None:
        hub_server.add_model("alice/secret", model_files(), private=True)
        beat(workers, has_hub_token=True)

        accepted = http.post("/v1/jobs", json=source("alice/secret"))
        validated = http.post("/v1/jobs:validate", json=source("alice/secret")).json()

        assert (accepted.status_code, accepted.json()["source"]["sha"]) == (202, None)
        assert validated["valid"]
        assert any("token of its own" in note for note in validated["notes"])

    def test_with_a_token_of_the_caller_a_no_is_certain_whatever_the_workers_have(
        self, http: TestClient, hub_server: HubServer, workers: WorkerRegistry
    ) -> None:
        hub_server.add_model("bob/secret", model_files(), private=True)
        beat(workers, has_hub_token=True)

        answer = http.post("/v1/jobs", json={**source("bob/secret"), "hub_token": "hf_alice"})

        assert (answer.status_code, answer.json()["code"]) == (422, "model_not_found")

    @pytest.mark.parametrize("route", ["info", "resolve"])
    def test_what_a_hub_refuses_without_saying_why_is_left_to_the_worker(
        self, http: TestClient, hub_server: HubServer, model: str, route: str
    ) -> None:
        hub_server.fail(route, Failure.status(418, message="I am a teapot"), times=9)

        accepted = http.post("/v1/jobs", json=BODY)

        assert accepted.status_code == 202

    @pytest.mark.parametrize("card", ["", "---\nlicense: other\nlicense_name: acme-terms\n---\n"])
    def test_a_licence_that_says_nothing_has_to_be_acknowledged(
        self, http: TestClient, hub_server: HubServer, job_store: MemoryJobStore, card: str
    ) -> None:
        hub_server.add_model("org/model", model_files(card=card))

        refused = http.post("/v1/jobs", json=BODY)
        accepted = http.post("/v1/jobs", json={**BODY, "acknowledge_license": True})

        assert (refused.status_code, refused.json()["code"]) == (422, "license_unclear")
        assert "acknowledge_license" in refused.json()["detail"]
        assert accepted.status_code == 202
        assert job_store.get(accepted.json()["id"]).work.acknowledge_license


class TestSilentHub:
    """A Hub that cannot be reached."""

    @pytest.fixture
    def hubs(self, tmp_path: Path) -> ConfiguredHubs:
        """A Hub at a port where nobody listens."""
        where = {"source_hub": "huggingface", "destination_hub": "huggingface", "hub_url": "http://127.0.0.1:9"}
        return ConfiguredHubs(HubSettings.model_validate(where), data_dir=tmp_path)

    def test_work_is_accepted_and_checked_by_the_worker(self, http: TestClient) -> None:
        accepted, validated = http.post("/v1/jobs", json=BODY), http.post("/v1/jobs:validate", json=BODY)

        assert (accepted.status_code, accepted.json()["source"]["sha"]) == (202, None)
        assert (validated.status_code, validated.json()["code"]) == (503, "hub_unavailable")

    def test_what_no_hub_can_hold_is_refused_all_the_same(self, http: TestClient) -> None:
        answer = http.post("/v1/jobs", json={**BODY, "destination": {"repo_id": "demo/x.git"}})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_repo_id")
