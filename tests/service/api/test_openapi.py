"""The schema that tooling generates clients from."""

import re
from datetime import UTC, datetime

from fastapi.testclient import TestClient

from service.api.outgoing import EndpointMessage, JobMessage
from service.jobs.memory_store import MemoryJobStore
from service.notifications.messages import disabled_payload, job_payload
from service.notifications.schema import Endpoint
from tests.service import finished


def test_every_operation_has_a_stable_name_and_a_summary(http: TestClient) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]

    names = [operation["operationId"] for operation in operations]
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for operation in operations)
    assert {"createJob", "listJobs", "getJob", "cancelJob", "retryJob", "streamJobEvents", "getJobReport"} <= set(names)


def test_every_documented_error_is_a_problem(http: TestClient) -> None:
    schema = http.get("/openapi.json").json()
    errors = [
        (operation["operationId"], status, list(answer["content"]))
        for path in schema["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400 and operation["operationId"] != "readyz"
    ]

    assert errors
    assert all(content == ["application/problem+json"] for _, _, content in errors), errors
    assert schema["components"]["schemas"]["Problem"]["required"]


def test_the_pages_are_not_part_of_the_schema(http: TestClient) -> None:
    assert all(
        path.startswith(("/v1/", "/livez", "/readyz", "/metrics")) for path in http.get("/openapi.json").json()["paths"]
    )


def test_the_messages_we_send_are_described_as_they_are(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store)
    payload = job_payload(job, state="failed", at=job.updated_at, base_url="https://srr.example")

    described = http.get("/openapi.json").json()["webhooks"]["job"]["post"]

    assert described["operationId"] == "onJobChange"
    assert {parameter["name"] for parameter in described["parameters"]} == {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }
    assert JobMessage.model_validate(payload).data.failure == job.failure


def test_the_notice_of_a_switched_off_endpoint_is_described_as_it_is(http: TestClient) -> None:
    now = datetime.now(UTC)
    endpoint = Endpoint(id="endpoint_1", owner="local", created_at=now, url="https://example.org")
    payload = disabled_payload(endpoint, reason="it answered 410 Gone", at=now, base_url="https://srr.example")

    described = http.get("/openapi.json").json()["webhooks"]["endpoint"]["post"]

    assert described["operationId"] == "onEndpointDisabled"
    assert EndpointMessage.model_validate(payload).model_dump(mode="json")["data"] == payload["data"]
