"""The schema that tooling generates clients from."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.outgoing import EndpointMessage, JobMessage
from service.jobs.memory_store import MemoryJobStore
from service.notifications.messages import disabled_payload, job_payload
from service.notifications.schema import Endpoint
from srr_core.recipe.complaints import FORMS
from tests.service import finished


def test_every_operation_has_a_stable_name_and_a_summary(http: TestClient) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]

    names = [operation["operationId"] for operation in operations]
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for operation in operations)
    assert {"createJob", "listJobs", "getJob", "cancelJob", "retryJob", "streamJobEvents", "getJobReport"} <= set(names)


def test_every_pattern_of_a_value_is_told_in_words(http: TestClient) -> None:
    patterns = set(_patterns(http.get("/openapi.json").json()))

    assert len(patterns) > 10
    assert patterns - set(FORMS) == set()


def _patterns(schema: Any) -> Iterator[str]:
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    # A watch has a field of that name; what it is set to begins with no anchor.
    if isinstance(schema, dict) and str(schema.get("pattern", "")).startswith("^"):
        yield schema["pattern"]
    for child in children:
        yield from _patterns(child)


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


@pytest.fixture
def schema(http: TestClient) -> dict[str, Any]:
    """The schema as it is served."""
    return dict(http.get("/openapi.json").json())


def operations(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return each operation with its path."""
    return [(path, operation) for path, item in schema["paths"].items() for operation in item.values()]


def test_a_key_is_sent_as_a_bearer_token(schema: dict[str, Any]) -> None:
    scheme = schema["components"]["securitySchemes"]["apiKey"]

    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert "srr keys create" in scheme["description"]


def test_only_what_is_public_wants_no_key(schema: dict[str, Any]) -> None:
    public = {path for path, operation in operations(schema) if "security" not in operation}

    assert public == {"/livez", "/readyz", "/v1/recipes", "/v1/hooks/huggingface/{watch_id}"}


def test_what_wants_a_key_says_which_scope_and_how_it_refuses(schema: dict[str, Any]) -> None:
    secured = {path: operation for path, operation in operations(schema) if "security" in operation}
    silent = [path for path, operation in secured.items() if not {"401", "429", "503"} <= set(operation["responses"])]
    scoped = {path for path, operation in secured.items() if operation["security"] != [{"apiKey": []}]}

    assert silent == []
    assert set(secured) - scoped == {"/metrics"}
    assert [path for path in scoped if "403" not in secured[path]["responses"]] == []
    create = schema["paths"]["/v1/jobs"]["post"]
    assert create["security"] == [{"apiKey": ["jobs:write"]}]
    assert {"Retry-After", "RateLimit"} <= set(create["responses"]["429"]["headers"])
    assert "jobs:write" in create["responses"]["403"]["description"]


def test_what_takes_json_says_how_it_refuses_the_rest(schema: dict[str, Any]) -> None:
    with_body = [operation for _, operation in operations(schema) if "requestBody" in operation]
    bodies = [one["responses"] for one in with_body if "application/json" in one["requestBody"]["content"]]

    assert bodies != []
    assert [sorted(responses) for responses in bodies if not {"400", "413", "415"} <= set(responses)] == []


@pytest.mark.parametrize(
    "name",
    ["JobResource", "EventData", "KeyResource", "RecipeResource", "WorkerResource", "Watch", "Endpoint", "Problem"],
)
def test_a_resource_has_a_whole_example(schema: dict[str, Any], name: str) -> None:
    model = schema["components"]["schemas"][name]

    (example,) = model["examples"]
    assert set(example) == set(model["properties"])
