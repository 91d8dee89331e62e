"""Requests that another site makes a browser send, on every route and page that changes something."""

import pytest

from service.edge.sessions import SESSION_COOKIE
from tests.attacks.conftest import Installation
from tests.attacks.routes import ways

IDS = {
    "job_id": "job_01k9z6h3v2m8q4t7w1x5y0c3d6",
    "step": "1",
    "watch_id": "watch_01k9z6h3v2m8q4t7w1x5y0c3d6",
    "endpoint_id": "endpoint_01k9z6h3v2m8q4t7w1x5y0c3d6",
    "delivery_id": "msg_01k9z6h3v2m8q4t7w1x5y0c3d6",
    "key_id": "0123456789abcdef",
}


@pytest.fixture
def signed_in(installation: Installation) -> Installation:
    """A browser in which ann has signed in."""
    text = installation.bearer("ann")["Authorization"].removeprefix("Bearer ")
    page = installation.http.get("/sign-in").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    installation.http.post("/sign-in", data={"key": text, "csrf_token": token}, follow_redirects=False)
    assert SESSION_COOKIE in installation.http.cookies
    return installation


def test_a_session_alone_changes_nothing(signed_in: Installation) -> None:
    changes = [way for way in ways(signed_in.http.app) if way.method != "GET"]  # type: ignore[arg-type]
    ours = [way for way in changes if not way.path.startswith("/v1/hooks/")]

    statuses = {
        str(way): signed_in.http.request(way.method, way.of(IDS), data={"csrf_token": "guessed"}).status_code
        for way in ours
    }

    assert len(statuses) > 30
    assert {way: status for way, status in statuses.items() if status not in (401, 403, 404)} == {}
    assert {status for way, status in statuses.items() if "/v1/" in way} == {401}


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null", "file://"])
def test_a_form_of_another_site_is_refused_even_with_the_right_token(signed_in: Installation, origin: str) -> None:
    page = signed_in.http.get("/keys").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]

    answer = signed_in.http.post(
        "/keys", data={"name": "n", "scopes": "jobs:read", "csrf_token": token}, headers={"Origin": origin}
    )

    assert answer.status_code == 403


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "evil",
        "",
    ],
)
def test_signing_in_leads_nowhere_else(installation: Installation, following: str) -> None:
    text = installation.bearer("ann")["Authorization"].removeprefix("Bearer ")
    page = installation.http.get("/sign-in").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]

    answer = installation.http.post(
        "/sign-in", data={"key": text, "next": following, "csrf_token": token}, follow_redirects=False
    )

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
