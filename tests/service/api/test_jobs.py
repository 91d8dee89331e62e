"""Jobs over REST, as a program sees them."""

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from tests.service import finished

pytestmark = pytest.mark.usefixtures("org_model")
BODY = {
    "source": {"model_id": "org/model", "revision": "v1"},
    "recipe": "srr",
    "destination": {"repo_id": "org/model-srr"},
}


def test_a_submitted_job_is_accepted_and_found_at_its_location(http: TestClient, org_model: str) -> None:
    response = http.post("/v1/jobs", json=BODY)

    assert response.status_code == 202
    assert int(response.headers["retry-after"]) > 0
    job = http.get(response.headers["location"]).json()
    assert job["state"] == "queued"
    assert job["source"] == {"model_id": "org/model", "revision": "v1", "sha": org_model}
    assert job["recipe"]["name"] == "srr"
    assert job["queue_position"] == 0


def test_a_second_job_to_one_destination_names_the_first_until_it_has_ended(http: TestClient) -> None:
    first = http.post("/v1/jobs", json=BODY).json()
    elsewhere = http.post("/v1/jobs", json={**BODY, "destination": {"repo_id": "org/other"}}).json()
    second = http.post("/v1/jobs", json={**BODY, "recipe": {"name": "srr", "rank": 8}})

    assert second.status_code == 202
    assert second.json()["same_destination"] == [first["id"]]
    assert (first["same_destination"], elsewhere["same_destination"]) == ([], [])
    page = http.get(f"/jobs/{second.json()['id']}").text
    assert f'href="/jobs/{first["id"]}"' in page
    assert "What ends last lies on top." in page

    http.post(f"/v1/jobs/{first['id']}/cancel")

    assert http.get(second.headers["location"]).json()["same_destination"] == []
    assert "lies on top" not in http.get(f"/jobs/{second.json()['id']}").text


def test_an_object_recipe_replaces_fields_of_the_one_it_names(http: TestClient) -> None:
    recipe = {"name": "srr", "quantizer": {"num_bits": 2, "block_size": 16}, "rank": 8}

    job = http.post("/v1/jobs", json={**BODY, "recipe": recipe}).json()

    assert job["recipe"]["quantizer"]["num_bits"] == 2
    assert job["recipe"]["rank"] == 8
    assert job["recipe"]["rank_selector"] == {"kind": "spectral"}


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"recipe": "no-such-recipe"}, "invalid_recipe", "body.recipe"),
        ({"recipe": {"name": "srr", "quantizer": {"num_bits": 9}}}, "invalid_recipe", "num_bits"),
        ({"recipe": {"name": "srr", "rank": -1}}, "invalid_recipe", "body.recipe.rank"),
        ({"recipe": {"name": "srr", "rnak": 8}}, "invalid_recipe", "body.recipe.rnak"),
        ({"source": {"model_id": "../etc"}}, "invalid_request", "body.source.model_id"),
        ({"source": {"model_id": "org/model", "revision": "-x"}}, "invalid_request", "body.source.revision"),
        ({"destination": {}}, "invalid_request", "body.destination.repo_id"),
        ({"priority": 1}, "invalid_request", "body.priority"),
        ({"tags": ["a b"]}, "invalid_request", "body.tags.0"),
    ],
)
def test_a_wrong_field_is_named(http: TestClient, changes: dict[str, object], code: str, field: str) -> None:
    response = http.post("/v1/jobs", json={**BODY, **changes})

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == code
    assert any(field in error["field"] for error in problem["errors"])


def test_an_unknown_recipe_is_answered_with_the_known_ones(http: TestClient) -> None:
    problem = http.post("/v1/jobs", json={**BODY, "recipe": "qera-exakt"}).json()

    assert "Did you mean 'qera-exact'?" in problem["detail"]
    assert "srr-iterative" in problem["detail"]


def test_source_and_destination_must_differ(http: TestClient) -> None:
    response = http.post("/v1/jobs", json={**BODY, "destination": {"repo_id": "org/model"}})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_job")


def test_the_same_idempotency_key_gives_the_same_job(http: TestClient) -> None:
    first = http.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "key-1"})
    second = http.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "key-1"})

    assert second.status_code == 202
    assert second.json()["id"] == first.json()["id"]


def test_an_idempotency_key_for_another_request_is_refused(http: TestClient) -> None:
    http.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "key-1"})

    response = http.post("/v1/jobs", json={**BODY, "recipe": "lqer"}, headers={"Idempotency-Key": "key-1"})

    assert (response.status_code, response.json()["code"]) == (422, "idempotency_conflict")


def test_force_is_part_of_the_request_that_a_key_stands_for(http: TestClient) -> None:
    http.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "key-1"})

    response = http.post("/v1/jobs", json={**BODY, "force": True}, headers={"Idempotency-Key": "key-1"})

    assert (response.status_code, response.json()["code"]) == (422, "idempotency_conflict")


@pytest.mark.parametrize("token", ["é", "a b", "a\n", "\x00"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", BODY),
        ("/v1/jobs:validate", BODY),
        ("/v1/models:inspect", {"model_id": "org/model"}),
        ("/v1/jobs/job_00000000000000000000000000/retry", {}),
    ],
)
def test_a_hub_token_that_no_header_can_carry_is_refused(
    http: TestClient, path: str, body: dict[str, object], token: str
) -> None:
    response = http.post(path, json={**body, "hub_token": token})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    (error,) = response.json()["errors"]
    assert error["field"] == "body.hub_token"
    assert "printable ASCII" in error["message"]


def test_a_hub_token_is_never_sent_back(http: TestClient, job_store: MemoryJobStore) -> None:
    response = http.post("/v1/jobs", json={**BODY, "hub_token": "hf_abcdefghijklmnop"})

    assert response.status_code == 202
    assert "hf_abcdefghijklmnop" not in response.text
    assert "hf_abcdefghijklmnop" not in job_store.get(response.json()["id"]).model_dump_json()


def test_a_text_is_kept_but_not_sent_back(http: TestClient, job_store: MemoryJobStore) -> None:
    response = http.post("/v1/jobs", json={**BODY, "calibration": {"text": "some words", "num_sequences": 4}})

    summary = response.json()["calibration"]
    assert summary["num_sequences"] == 4
    assert job_store.text(summary["sha256"]) == "some words"
    assert "some words" not in response.text


def test_jobs_are_listed_newest_first_in_pages(http: TestClient, job_store: MemoryJobStore) -> None:
    jobs = [finished.queued(job_store, model_id=f"org/model-{number}") for number in range(3)]

    first = http.get("/v1/jobs", params={"limit": 2})
    second = http.get(first.links["next"]["url"])

    listed = [job["id"] for page in (first, second) for job in page.json()["jobs"]]
    assert listed == [job.id for job in reversed(jobs)]
    assert second.json()["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "failed"}, ["org/failed"]),
        ({"state": ["failed", "running"]}, ["org/running", "org/failed"]),
        ({"model_id": "org/running"}, ["org/running"]),
        ({"recipe": "lqer"}, ["org/queued"]),
        ({"tag": "none"}, []),
    ],
)
def test_jobs_are_filtered(
    http: TestClient, job_store: MemoryJobStore, query: dict[str, object], expected: list[str]
) -> None:
    finished.failed(job_store, model_id="org/failed")
    finished.running(job_store, model_id="org/running")
    finished.queued(job_store, model_id="org/queued", recipe="lqer")

    jobs = http.get("/v1/jobs", params=query).json()["jobs"]  # type: ignore[arg-type]

    assert [job["source"]["model_id"] for job in jobs] == expected


def test_a_made_up_cursor_is_refused(http: TestClient) -> None:
    response = http.get("/v1/jobs", params={"cursor": "made-up"})

    assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


def test_a_job_of_somebody_else_does_not_exist(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store, owner="somebody-else")

    answers = [
        http.get(f"/v1/jobs/{job.id}"),
        http.get(f"/v1/jobs/{job.id}/report"),
        http.get(f"/v1/jobs/{job.id}/logs"),
        http.get(f"/v1/jobs/{job.id}/events"),
        http.post(f"/v1/jobs/{job.id}/cancel"),
        http.post(f"/v1/jobs/{job.id}/retry"),
    ]

    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert http.get("/v1/jobs").json()["jobs"] == []


def test_a_queued_job_is_canceled_at_once_and_only_once(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.queued(job_store)

    first = http.post(f"/v1/jobs/{job.id}/cancel")
    second = http.post(f"/v1/jobs/{job.id}/cancel")

    assert (first.status_code, first.json()["state"]) == (202, "canceled")
    assert (second.status_code, second.json()["code"]) == (409, "job_finished")


def test_a_running_job_is_canceling_until_its_worker_stops(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)

    assert http.post(f"/v1/jobs/{job.id}/cancel").json()["state"] == "canceling"


def test_a_failed_job_can_be_retried_and_a_running_one_cannot(http: TestClient, job_store: MemoryJobStore) -> None:
    failed, running = finished.failed(job_store), finished.running(job_store)

    again = http.post(f"/v1/jobs/{failed.id}/retry", json={"hub_token": "hf_abcdefghijklmnop"})
    refused = http.post(f"/v1/jobs/{running.id}/retry")

    assert (again.status_code, again.json()["state"], again.json()["attempt"]) == (202, "queued", 2)
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_retryable")


def test_a_retry_of_a_job_that_had_its_own_token_needs_one_again(http: TestClient) -> None:
    job = http.post("/v1/jobs", json={**BODY, "hub_token": "hf_abcdefghijklmnop"}).json()
    canceled = http.post(f"/v1/jobs/{job['id']}/cancel").json()

    without = http.post(f"/v1/jobs/{job['id']}/retry")
    again = http.post(f"/v1/jobs/{job['id']}/retry", json={"hub_token": "hf_abcdefghijklmnop"})

    assert (job["needs_hub_token"], canceled["needs_hub_token"]) == (False, True)
    assert (without.status_code, without.json()["code"]) == (422, "invalid_job")
    assert "hub_token" in without.json()["detail"]
    assert (again.status_code, again.json()["needs_hub_token"]) == (202, False)


def test_recipes_are_listed_with_their_options(http: TestClient) -> None:
    recipes = {recipe["name"]: recipe for recipe in http.get("/v1/recipes").json()["recipes"]}

    assert recipes["gptq"]["is_default"]
    assert recipes["srr"]["num_bits"] == recipes["srr"]["recipe"]["quantizer"]["num_bits"]
    assert recipes["qera-exact"]["title"]


def test_the_same_work_on_the_same_commit_is_done_once_unless_forced(http: TestClient, org_model: str) -> None:
    named = {**BODY, "source": {"model_id": "org/model", "revision": org_model}}

    first, again = http.post("/v1/jobs", json=BODY), http.post("/v1/jobs", json=named)
    other = http.post("/v1/jobs", json={**BODY, "recipe": "lqer"})
    forced = http.post("/v1/jobs", json={**BODY, "force": True})

    assert again.json()["id"] == first.json()["id"]
    assert len({answer.json()["id"] for answer in (first, other, forced)}) == 3


def test_the_usage_counts_what_waits_and_runs(http: TestClient, job_store: MemoryJobStore) -> None:
    finished.queued(job_store)
    finished.running(job_store)

    usage = http.get("/v1/usage").json()

    assert (usage["queued"], usage["running"], usage["quota"]) == (1, 1, None)
