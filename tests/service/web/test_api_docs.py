"""The REST API as a page."""

import re

from fastapi import FastAPI
from fastapi.testclient import TestClient


def test_every_operation_is_on_the_page_and_nothing_comes_from_elsewhere(
    http: TestClient, application: FastAPI
) -> None:
    page = http.get("/docs").text

    paths = application.openapi()["paths"]
    wanted = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(re.findall(r"<summary><code>([^<]+)</code>", page)) == wanted
    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', page) == []


def test_an_operation_shows_a_body_that_it_takes(http: TestClient) -> None:
    page = http.get("/docs").text

    assert "&#34;model_id&#34;: &#34;org/model&#34;" in page
    assert "idempotency-key" in page.lower()
