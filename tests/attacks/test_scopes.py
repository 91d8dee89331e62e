"""A key does what its scopes say and nothing else, on every route and page; and it makes no key that may do more."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES, Quota, Scope
from tests.attacks.conftest import Installation
from tests.attacks.routes import Way, ways
from tests.attacks.test_forged_requests import IDS

FREE = frozenset(
    {
        *("/v1/recipes", "/livez", "/readyz", "/metrics", "/recipes", "/workers", "/queue", "/docs"),
        *("/sign-in", "/sign-out", "/sign-in/huggingface", "/sign-in/huggingface/callback"),
    }
)
"""Nothing of anybody's is there; /metrics and /workers still want somebody who has signed in."""
OTHERS: Mapping[str, Scope] = {
    "POST /v1/models:inspect": "jobs:read",
    "POST /v1/jobs:validate": "jobs:read",
    "GET /v1/jobs:compare": "jobs:read",
    "POST /v1/watches/preview": "watches:read",
    "GET /watches/new": "watches:write",
    "GET /watches/{watch_id}/edit": "watches:write",
    "GET /keys": "keys:write",
    "GET /v1/api-keys": "keys:write",
    "POST /check": "jobs:read",
    "POST /finetune/check": "jobs:read",
}
"""What the first word of a path and the method do not tell."""
_BY_PLACE: Mapping[str, tuple[Scope, Scope]] = {
    **dict.fromkeys(
        (
            "jobs",
            "hub-models",
            "texts",
            "usage",
            "compare",
            "evaluate",
            "finetune",
            "convert",
            "preview",
            "",
            "v1/workers",
        ),
        ("jobs:read", "jobs:write"),
    ),
    "watches": ("watches:read", "watches:write"),
    **dict.fromkeys(("webhooks", "webhook-endpoints"), ("notifications:write", "notifications:write")),
    **dict.fromkeys(("keys", "api-keys"), ("keys:write", "keys:write")),
}


def needed(way: Way) -> Scope:
    """Return the scope a route has to ask for; KeyError: it is of a kind that nobody has thought of."""
    if str(way) in OTHERS:
        return OTHERS[str(way)]
    if way.path == "/v1/workers":
        return "jobs:read"
    reading, writing = _BY_PLACE[way.path.removeprefix("/v1").split("/")[1]]
    return reading if way.method == "GET" else writing


def guarded(installation: Installation) -> list[Way]:
    """Return every route that wants a scope; hooks want the secret of a watch instead."""
    found: list[Way] = ways(installation.http.app)  # type: ignore[arg-type,assignment]
    return [way for way in found if way.path not in FREE and not way.path.startswith("/v1/hooks/")]


def test_every_route_is_refused_without_its_scope(installation: Installation) -> None:
    by_scope = {scope: installation.bearer("ann", *(set(ALL_SCOPES) - {scope})) for scope in ALL_SCOPES}
    token = _form_token(installation)

    answers = {str(way): _ask(installation, way, by_scope[needed(way)], token) for way in guarded(installation)}

    assert len(answers) > 60
    assert {way: answer.status_code for way, answer in answers.items() if answer.status_code != 403} == {}
    pages = {way for way, answer in answers.items() if "/v1/" not in way and "this needs the scope" not in answer.text}
    assert pages == set()
    codes = {answer.json()["code"] for way, answer in answers.items() if "/v1/" in way}
    assert codes == {"missing_scope"}


def test_every_route_is_open_with_its_scope_alone(installation: Installation) -> None:
    by_scope = {scope: installation.bearer("ann", scope) for scope in ALL_SCOPES}
    # A page that changes a job shows it as well.
    by_scope["jobs:write"] = installation.bearer("ann", "jobs:read", "jobs:write")
    token = _form_token(installation)

    refused = {
        str(way): answer.status_code
        for way in guarded(installation)
        if (answer := _ask(installation, way, by_scope[needed(way)], token)).status_code in (401, 403)
    }

    assert refused == {}


def test_a_key_without_any_scope_reads_nothing_of_anybody(installation: Installation) -> None:
    key = issue_key(installation.keys, name="bare", owner="ann", scopes=())
    header, token = {"Authorization": f"Bearer {key.text}"}, _form_token(installation)

    statuses = {str(way): _ask(installation, way, header, token).status_code for way in guarded(installation)}

    assert set(statuses.values()) == {403}


@pytest.mark.parametrize("scope", sorted(set(ALL_SCOPES) - {"keys:write"}))
def test_a_key_gives_no_scope_that_it_does_not_have(installation: Installation, scope: Scope) -> None:
    header = installation.bearer("ann", "keys:write")
    form = {"name": "wider", "scopes": [scope, "keys:write"], "csrf_token": _form_token(installation)}

    over_rest = installation.http.post("/v1/api-keys", json={"name": "wider", "scopes": [scope]}, headers=header)
    on_the_page = installation.http.post("/keys", data=form, headers=header)

    assert (over_rest.status_code, over_rest.json()["code"]) == (403, "missing_scope")
    assert (on_the_page.status_code, "does not have" in on_the_page.text) == (422, True)
    assert [key.name for key in installation.keys.list("ann")] == ["test"]


@pytest.mark.parametrize("limit", ["max_queued", "max_running", "minutes_per_day", "requests_per_minute"])
def test_a_key_gives_no_quota_that_it_does_not_have(installation: Installation, limit: str) -> None:
    quota = Quota(max_queued=1, max_running=1, minutes_per_day=1, requests_per_minute=100)
    header = installation.bearer("ann", "keys:write", quota=quota)

    wider = {"name": "wider", "scopes": ["keys:write"], limit: 101}
    refused = installation.http.post("/v1/api-keys", json=wider, headers=header)
    as_mine = installation.http.post("/v1/api-keys", json=wider | {limit: None}, headers=header)

    assert (refused.status_code, refused.json()["code"]) == (403, "quota_too_large")
    assert as_mine.json()["key"]["quota"] == quota.model_dump()


@pytest.mark.parametrize("days", [None, 30])
def test_a_key_makes_none_that_outlives_it(installation: Installation, days: int | None) -> None:
    soon = issue_key(
        installation.keys, name="soon gone", owner="ann", scopes=("keys:write",), lifetime=timedelta(hours=1)
    )
    header = {"Authorization": f"Bearer {soon.text}"}
    wish: dict[str, Any] = {"name": "heir", "scopes": ["keys:write"], "expires_in_days": days}
    form = {"name": "heir", "scopes": "keys:write", "expires_in_days": days or "", "csrf_token": ""}

    installation.http.post("/v1/api-keys", json=wish, headers=header)
    installation.http.post("/keys", data=form | {"csrf_token": _form_token(installation)}, headers=header)

    heirs = [key for key in installation.keys.list("ann") if key.name == "heir"]
    assert len(heirs) == 2
    assert all(key.expires_at is not None and key.expires_at <= soon.key.expires_at for key in heirs)  # type: ignore[operator]
    assert all(key.expires_at > datetime.now(UTC) for key in heirs)  # type: ignore[operator]


def _ask(installation: Installation, way: Way, header: Mapping[str, str], token: str) -> Any:
    form = {"csrf_token": token, "name": "n", "url": "https://93.184.215.14/hook"}
    body: dict[str, Any] = {} if way.method == "GET" else {"json": {}} if way.is_api else {"data": form}
    return installation.http.request(way.method, way.of(IDS), headers=header, follow_redirects=False, **body)


def _form_token(installation: Installation) -> str:
    page = installation.http.get("/sign-in").text
    return page.split('name="csrf_token" value="')[1].split('"')[0]
