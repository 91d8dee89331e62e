"""Bodies are read after their sender is known, in small portions, and nonsense is answered briefly."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from service.edge.gate import ANONYMOUS_BYTES, USUAL_BYTES
from service.edge.problems import MAX_FIELDS
from service.jobs.errors import TextNotFoundError
from service.jobs.uploads import KEPT, MAX_KEPT, TextUploads
from service.platform.clock import utc_now
from tests.attacks.conftest import Installation

NOT_JSON = b"{" + b'"a' * 50


def writes_of_the_api(installation: Installation) -> list[tuple[str, str]]:
    """Return method and path of every operation that wants a key and may have a body."""
    document = installation.http.get("/openapi.json").json()
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method not in ("get", "head") and operation.get("security")
    ]


def test_nobody_reads_what_a_stranger_sends(installation: Installation) -> None:
    found = {
        (method, path): installation.http.request(
            method, path, content=NOT_JSON, headers={"Content-Type": "application/json"}
        )
        for method, path in writes_of_the_api(installation)
    }

    assert len(found) > 10
    assert {row: answer.status_code for row, answer in found.items() if answer.status_code != 401} == {}


def test_what_a_stranger_may_send_to_a_page_is_a_small_form(installation: Installation) -> None:
    form = "application/x-www-form-urlencoded"
    content = b"key=" + b"a" * ANONYMOUS_BYTES

    answer = installation.http.post("/sign-in", content=content, headers={"Content-Type": form})

    assert answer.status_code == 413


def test_a_body_is_as_small_as_its_operation_needs(installation: Installation) -> None:
    header = installation.bearer("mallory") | {"Content-Type": "application/json"}
    content = json.dumps({"tags": ["a" * USUAL_BYTES]})

    found = {
        (method, path): installation.http.request(method, path, content=content, headers=header).status_code
        for method, path in writes_of_the_api(installation)
        if method in ("POST", "PUT", "PATCH") and path != "/v1/texts"
    }

    assert {row: status for row, status in found.items() if status not in (413, 403, 404, 405)} == {}
    assert found["POST", "/v1/jobs"] == 413


def test_nonsense_is_answered_briefly(installation: Installation) -> None:
    body: dict[str, Any] = {f"field{number}": 1 for number in range(10_000)}
    body["k" * 10_000] = 1
    header = installation.bearer("mallory")

    answer = installation.http.post("/v1/jobs", json=body, headers=header)

    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == MAX_FIELDS
    assert len(answer.content) < 20_000
    assert "more are left out" in answer.json()["detail"]


def test_a_request_that_is_counted_before_its_body_is_not_counted_again(installation: Installation) -> None:
    header = installation.bearer("ann")

    first = installation.http.post("/v1/jobs", json={}, headers=header).headers["RateLimit"]
    second = installation.http.post("/v1/jobs", json={}, headers=header).headers["RateLimit"]

    left = [int(one.split("r=")[1].split(";")[0]) for one in (first, second)]
    assert left[0] - left[1] == 1


TEXT = "Once upon a time. " * 20_000


def test_a_text_is_uploaded_by_itself_and_named_by_its_digest(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")
    digest = hashlib.sha256(TEXT.encode()).hexdigest()

    uploaded = installation.http.post("/v1/texts", content=TEXT.encode(), headers=header)
    job = installation.submit(header, "org/model", "acme/out", calibration={"sha256": digest, "num_sequences": 3})

    assert (uploaded.status_code, uploaded.json()["sha256"]) == (201, digest)
    assert job.status_code == 202
    assert installation.store.text(job.json()["calibration"]["sha256"]) == TEXT


def test_a_digest_alone_opens_no_text_of_somebody_else(installation: Installation) -> None:
    installation.tenancy.lend("mallory", "acme")
    sent = installation.http.post("/v1/texts", content=TEXT.encode(), headers=installation.bearer("ann"))
    header = installation.bearer("mallory")

    theirs = installation.submit(header, "org/model", "acme/out", evaluation={"sha256": sent.json()["sha256"]})
    nobodys = installation.submit(header, "org/model", "acme/out", evaluation={"sha256": "0" * 64})

    assert [(one.status_code, one.json()["code"]) for one in (theirs, nobodys)] == [(422, "text_not_found")] * 2


def test_rows_of_somebody_else_are_not_even_previewed(installation: Installation) -> None:
    rows = '{"prompt": "say 1", "completion": "secret"}\n{"prompt": "say 2", "completion": "fine"}\n'
    sent = installation.http.post("/v1/texts", content=rows.encode(), headers=installation.bearer("ann"))
    body = {
        "kind": "finetune",
        "source": {"model_id": "org/model"},
        "destination": {"repo_id": "acme/out"},
        "data": {"sha256": sent.json()["sha256"]},
        "tuning": {"task": "instructions"},
    }

    own, theirs = (
        installation.http.post("/v1/jobs:validate", json=body, headers=installation.bearer(owner))
        for owner in ("ann", "mallory")
    )

    assert "secret" in own.text
    assert "text_not_found" in theirs.text
    assert "secret" not in theirs.text


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a" * 4_000_001])
def test_what_is_no_text_is_not_kept(installation: Installation, content: bytes) -> None:
    answer = installation.http.post("/v1/texts", content=content, headers=installation.bearer("ann"))

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_job")


def test_an_owner_keeps_so_many_texts_and_no_more(installation: Installation) -> None:
    header = installation.bearer("ann")
    uploads = TextUploads(installation.engine)
    for number in range(MAX_KEPT):
        uploads.keep("ann", f"text {number}".encode())

    more = installation.http.post("/v1/texts", content=b"one more", headers=header)
    again = installation.http.post("/v1/texts", content=b"text 0", headers=header)

    assert (more.status_code, more.json()["code"]) == (429, "too_many_texts")
    assert again.status_code == 201


def test_texts_that_no_job_names_go_after_a_week(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")
    named, unnamed = (
        installation.http.post("/v1/texts", content=content, headers=header).json()["sha256"]
        for content in (b"named", b"unnamed")
    )
    installation.submit(header, "org/model", "acme/out", calibration={"sha256": named})
    later = TextUploads(installation.engine, clock=lambda: utc_now() + KEPT + timedelta(minutes=1))

    assert later.forget_expired() == 2

    assert installation.store.text(named) == "named"
    with pytest.raises(TextNotFoundError):
        installation.store.text(unnamed)
