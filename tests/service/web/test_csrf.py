"""Tokens of forms, whatever a form holds."""

import pytest
from fastapi.testclient import TestClient

FORMS = ["/jobs", "/check", "/sign-in", "/sign-out", "/keys", "/watches"]


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("token", ["ключ", "\U0001f600", "é" * 64, ""])
def test_a_token_of_any_text_is_refused_and_never_a_failure(http: TestClient, path: str, token: str) -> None:
    http.get("/")

    assert http.post(path, data={"csrf_token": token}).status_code == 403


def test_a_token_in_a_made_up_encoding_is_refused(http: TestClient) -> None:
    http.get("/")
    body = (
        b"--x\r\nContent-Disposition: form-data; name=csrf_token\r\n"
        b"Content-Type: text/plain; charset=unicode_escape\r\n\r\n\\ud800\r\n--x--\r\n"
    )

    answer = http.post("/jobs", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})

    assert answer.status_code == 403
