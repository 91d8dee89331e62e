"""A second key on every route and page that takes an id: what is somebody else's does not exist."""

from typing import Any

import pytest

from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES
from service.notifications.endpoints import create_endpoint
from service.notifications.messages import trial_payload
from service.notifications.schema import EndpointRules
from service.notifications.telling import tell_owner
from service.platform.clock import utc_now
from tests.attacks.conftest import Installation
from tests.attacks.routes import Way, ways

SECRET = "anns-secret-name"
HAS_NO_KEY = frozenset({"POST /v1/hooks/huggingface/{watch_id}"})
"""The Hub calls it with the secret of a watch; `test_hooks` of the service is about it."""
BODIES: dict[str, dict[str, Any]] = {
    "PUT /v1/watches/{watch_id}": {"name": "n", "pattern": "org/*", "destination": "org/{name}-{recipe}"},
    "PUT /v1/webhook-endpoints/{endpoint_id}": {"url": "https://93.184.215.14/hook"},
    "POST /v1/jobs/{job_id}/checkpoints/{step}/publish": {"destination": {"repo_id": "mallory/hers"}},
}


@pytest.fixture
def anns(installation: Installation) -> dict[str, str]:
    """The ids of one thing of each kind that ann has."""
    installation.tenancy.lend("ann", "acme")
    key = issue_key(installation.keys, name=SECRET, owner="ann", scopes=ALL_SCOPES)
    header, now = {"Authorization": f"Bearer {key.text}"}, utc_now()
    job = installation.submit(header, "org/model", f"acme/{SECRET}").json()
    rules = {"name": SECRET, "pattern": "acme/*", "destination": "acme/{name}-{recipe}"}
    watch = installation.http.post("/v1/watches", json=rules, headers=header).json()
    endpoint = create_endpoint(
        EndpointRules(url=f"https://example.org/{SECRET}"),
        owner="ann",
        store=installation.notifications,
        vault=installation.vault,
        resolve=lambda host, port: ["93.184.215.14"],
    ).endpoint
    tell_owner(installation.notifications, "ann", trial_payload(at=now), now=now)
    (delivery,) = installation.notifications.deliveries(endpoint.id)
    installation.http.cookies.clear()
    return {
        "job_id": job["id"],
        "step": "1",
        "watch_id": watch["id"],
        "endpoint_id": endpoint.id,
        "delivery_id": delivery.id,
        "key_id": key.key.id,
    }


def test_what_is_somebody_elses_does_not_exist(installation: Installation, anns: dict[str, str]) -> None:
    wanted = [way for way in ways(installation.http.app) if "{" in way.path and str(way) not in HAS_NO_KEY]  # type: ignore[arg-type]
    header = installation.bearer("mallory")
    token = _form_token(installation, header)

    answers = {str(way): _try(installation, way, anns, header, token) for way in wanted}

    assert len(answers) > 35
    assert {way: answer.status_code for way, answer in answers.items() if answer.status_code != 404} == {}
    assert [way for way, answer in answers.items() if SECRET in answer.text] == []


def test_the_owner_herself_finds_them(installation: Installation, anns: dict[str, str]) -> None:
    header = installation.bearer("ann")
    readable = [way for way in ways(installation.http.app) if way.method == "GET" and "{" in way.path]  # type: ignore[arg-type]

    statuses = {
        str(way): installation.http.get(way.of(anns), headers=header).status_code
        for way in readable
        if not way.path.endswith(
            ("/events", "/report", "/picture")
        )  # the first waits for the job, which has no report yet
    }

    assert set(statuses.values()) == {200}


def test_lists_hold_ones_own_only(installation: Installation, anns: dict[str, str]) -> None:
    header = installation.bearer("mallory")
    lists = [way for way in ways(installation.http.app) if way.method == "GET" and "{" not in way.path]  # type: ignore[arg-type]

    leaks = [way.path for way in lists if SECRET in installation.http.get(way.path, headers=header).text]

    assert len(lists) > 20
    assert leaks == []


def _try(installation: Installation, way: Way, ids: dict[str, str], header: dict[str, str], token: str) -> Any:
    path = way.of(ids)
    if way.is_api:
        return installation.http.request(way.method, path, json=BODIES.get(str(way)), headers=header)
    form = {"csrf_token": token, "name": "n", "url": "https://93.184.215.14/hook"}
    data = form if way.method == "POST" else None
    return installation.http.request(way.method, path, data=data, headers=header, follow_redirects=False)


def _form_token(installation: Installation, header: dict[str, str]) -> str:
    page = installation.http.get("/keys", headers=header).text
    return page.split('name="csrf_token" value="')[1].split('"')[0]
