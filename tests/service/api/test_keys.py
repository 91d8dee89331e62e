"""API keys: who may call, for what, how often; and what a browser session may do."""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from service.edge.callers import rate_limit_headers, whole_seconds
from service.jobs.memory_store import MemoryJobStore
from service.keys.access import issue_key
from service.keys.rate_limit import RateDecision
from service.keys.schema import ALL_SCOPES, Quota, Scope
from service.keys.store import KeyStore
from service.settings import ServiceSettings
from tests.service import finished

pytestmark = pytest.mark.usefixtures("org_model")
BODY = {"source": {"model_id": "org/model"}, "destination": {"repo_id": "org/out"}}


@pytest.fixture
def settings() -> ServiceSettings:
    """A service that wants keys."""
    return ServiceSettings(sign_in="keys")


def bearer(
    keys: KeyStore, *scopes: Scope, owner: str = "ann", quota: Quota | None = None, days: float = 1
) -> dict[str, str]:
    """Make a key and return the header that carries it."""
    issued = issue_key(
        keys, name="test", owner=owner, scopes=scopes or ALL_SCOPES, quota=quota, lifetime=timedelta(days=days)
    )
    return {"Authorization": f"Bearer {issued.text}"}


def test_nobody_comes_in_without_a_key(http: TestClient) -> None:
    answer = http.get("/v1/jobs")

    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_required")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert http.get("/livez").status_code == 200


@pytest.mark.parametrize("text", ["", "nonsense", "srr_0123456789abcdef_" + "A" * 43])
def test_a_wrong_key_is_refused(http: TestClient, text: str) -> None:
    answer = http.get("/v1/jobs", headers={"Authorization": f"Bearer {text}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")


def test_an_expired_key_is_refused(http: TestClient, keys: KeyStore) -> None:
    assert http.get("/v1/jobs", headers=bearer(keys, days=-1)).status_code == 401


def test_a_key_does_only_what_its_scopes_say(http: TestClient, keys: KeyStore) -> None:
    reader = bearer(keys, "jobs:read")

    listed, submitted = http.get("/v1/jobs", headers=reader), http.post("/v1/jobs", json=BODY, headers=reader)

    assert listed.status_code == 200
    assert (submitted.status_code, submitted.json()["code"]) == (403, "missing_scope")


def test_owners_do_not_see_each_other(http: TestClient, keys: KeyStore) -> None:
    ann, bob = bearer(keys, owner="ann"), bearer(keys, owner="bob")
    job = http.post("/v1/jobs", json=BODY, headers=ann).json()

    assert http.get(f"/v1/jobs/{job['id']}", headers=ann).status_code == 200
    assert http.get(f"/v1/jobs/{job['id']}", headers=bob).status_code == 404
    assert http.get("/v1/jobs", headers=bob).json()["jobs"] == []


def test_the_rate_is_limited_and_told(http: TestClient, keys: KeyStore) -> None:
    header = bearer(keys, quota=Quota(requests_per_minute=2))

    answers = [http.get("/v1/jobs", headers=header) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert answers[0].headers["ratelimit"].startswith('"requests";r=1;')
    assert answers[2].json()["code"] == "rate_limited"
    assert 0 < int(answers[2].headers["retry-after"]) <= 60
    assert answers[2].headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert answers[2].headers["ratelimit"].startswith('"requests";r=0;')


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 1), (0.004, 1), (1.0, 1), (9.2, 10)])
def test_nobody_is_told_to_wait_for_nothing_or_too_short(seconds: float, told: int) -> None:
    assert whole_seconds(seconds) == told
    assert rate_limit_headers(RateDecision(False, 6000, 0, seconds))["RateLimit"] == f'"requests";r=0;t={told}'


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/jobs/job_01k9z6h3v2m8q4t7w1x5y0c3d6", 404), ("/v1/jobs?limit=0", 422), ("/metrics", 200)]
)
def test_the_rate_is_told_with_every_answer(http: TestClient, keys: KeyStore, path: str, status: int) -> None:
    answer = http.get(path, headers=bearer(keys, quota=Quota(requests_per_minute=9)))

    assert answer.status_code == status
    assert answer.headers["ratelimit"].startswith('"requests";r=8;')


def test_a_quota_that_is_used_up_stops_further_jobs(
    http: TestClient, keys: KeyStore, job_store: MemoryJobStore
) -> None:
    header = bearer(keys, owner="ann", quota=Quota(max_queued=1))
    finished.queued(job_store, owner="ann")

    answer = http.post("/v1/jobs", json=BODY, headers=header)

    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["ratelimit"]


def test_a_replay_is_answered_although_the_quota_is_used_up(http: TestClient, keys: KeyStore) -> None:
    header = bearer(keys, quota=Quota(max_queued=1)) | {"Idempotency-Key": "key-1"}

    first, second = (http.post("/v1/jobs", json=BODY, headers=header) for _ in range(2))

    assert (second.status_code, second.json()["id"]) == (202, first.json()["id"])


def test_a_retry_counts_against_the_quota(http: TestClient, keys: KeyStore, job_store: MemoryJobStore) -> None:
    header = bearer(keys, owner="ann", quota=Quota(max_queued=1))
    failed, _ = finished.failed(job_store, owner="ann"), finished.queued(job_store, owner="ann")

    answer = http.post(f"/v1/jobs/{failed.id}/retry", headers=header)

    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")


def test_a_key_is_shown_once_used_listed_and_revoked(http: TestClient, keys: KeyStore) -> None:
    header = bearer(keys)

    made = http.post("/v1/api-keys", json={"name": "nightly", "scopes": ["jobs:read"]}, headers=header)
    used = http.get("/v1/jobs", headers={"Authorization": f"Bearer {made.json()['text']}"})
    listed = http.get("/v1/api-keys", headers=header)
    revoked = http.delete(f"/v1/api-keys/{made.json()['key']['id']}", headers=header)
    refused = http.get("/v1/jobs", headers={"Authorization": f"Bearer {made.json()['text']}"})

    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    assert used.status_code == 200
    assert [key["name"] for key in listed.json()["keys"]] == ["nightly", "test"]
    assert made.json()["text"] not in listed.text
    assert revoked.json()["revoked_at"]
    assert refused.status_code == 401


def test_a_key_cannot_give_away_what_it_does_not_have(http: TestClient, keys: KeyStore) -> None:
    header = bearer(keys, "keys:write", "jobs:read")

    answer = http.post("/v1/api-keys", json={"name": "more", "scopes": ["jobs:write"]}, headers=header)

    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")


def test_a_key_may_have_less_than_the_one_that_makes_it_but_not_more(http: TestClient, keys: KeyStore) -> None:
    header = bearer(keys, quota=Quota(max_queued=5, max_running=None, minutes_per_day=60))
    body = {"name": "nightly", "scopes": ["jobs:read"]}

    less = http.post("/v1/api-keys", json={**body, "max_queued": 2, "max_running": 3}, headers=header)
    more = http.post("/v1/api-keys", json={**body, "max_queued": 6, "minutes_per_day": 61}, headers=header)
    listed = http.get("/v1/api-keys", headers=header).json()["keys"][0]["quota"]

    assert less.status_code == 201
    assert (listed["max_queued"], listed["max_running"], listed["minutes_per_day"]) == (2, 3, 60)
    assert (more.status_code, more.json()["code"]) == (403, "quota_too_large")
    assert "max_queued 5, minutes_per_day 60" in more.json()["detail"]


def test_a_key_of_somebody_else_cannot_be_revoked(http: TestClient, keys: KeyStore) -> None:
    issued = issue_key(keys, name="bob", owner="bob", scopes=ALL_SCOPES)

    answer = http.delete(f"/v1/api-keys/{issued.key.id}", headers=bearer(keys, owner="ann"))

    assert answer.status_code == 404
    found = keys.find(issued.key.id)
    assert found is not None
    assert found[0].revoked_at is None


def sign_in(http: TestClient, keys: KeyStore, text: str | None = None) -> str:
    """Sign in on the page; return the form token of the visitor."""
    text = text or bearer(keys)["Authorization"].removeprefix("Bearer ")
    token = http.get("/sign-in").text.split('name="csrf_token" value="')[1][:64]
    http.post("/sign-in", data={"key": text, "csrf_token": token})
    return token


def test_a_visitor_is_led_to_the_sign_in_page_and_back(http: TestClient, keys: KeyStore) -> None:
    turned_away = http.get("/jobs", headers={"Accept": "text/html"}, follow_redirects=False)
    sign_in(http, keys)

    assert (turned_away.status_code, turned_away.headers["location"]) == (303, "/sign-in?next=%2Fjobs")
    assert http.get("/jobs", headers={"Accept": "text/html"}).status_code == 200


def test_a_wrong_key_does_not_sign_in(http: TestClient, keys: KeyStore) -> None:
    sign_in(http, keys, text="srr_0123456789abcdef_" + "A" * 43)

    assert http.get("/v1/jobs").status_code == 401


def test_a_session_reads_over_rest_but_changes_nothing_there(http: TestClient, keys: KeyStore) -> None:
    sign_in(http, keys)

    assert http.get("/v1/jobs").status_code == 200
    assert http.post("/v1/jobs", json=BODY).status_code == 401


def test_revoking_a_key_ends_its_sessions(http: TestClient, keys: KeyStore) -> None:
    sign_in(http, keys)
    (key,) = keys.list(None)
    keys.revoke(key.id, owner=None, now=datetime.now(UTC))

    assert http.get("/v1/jobs").status_code == 401


def test_signing_out_ends_the_session_in_this_browser(http: TestClient, keys: KeyStore) -> None:
    token = sign_in(http, keys)
    http.post("/sign-out", data={"csrf_token": token})

    assert http.get("/v1/jobs").status_code == 401


def test_keys_are_made_and_revoked_on_their_page(http: TestClient, keys: KeyStore) -> None:
    token = sign_in(http, keys)

    made = http.post("/keys", data={"csrf_token": token, "name": "nightly", "scopes": ["jobs:read"]})
    nightly = next(key for key in keys.list("ann") if key.name == "nightly")
    http.post(f"/keys/{nightly.id}/revoke", data={"csrf_token": token})

    assert f"srr_{nightly.id}_" in made.text
    found = keys.find(nightly.id)
    assert found is not None
    assert found[0].revoked_at is not None


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_signing_in_never_leads_elsewhere(http: TestClient, keys: KeyStore, target: str) -> None:
    text = bearer(keys)["Authorization"].removeprefix("Bearer ")
    token = http.get("/sign-in").text.split('name="csrf_token" value="')[1][:64]

    answer = http.post("/sign-in", data={"key": text, "csrf_token": token, "next": target}, follow_redirects=False)

    assert answer.headers["location"] == "/"
