"""Signing in with Hugging Face, the whole way, against a provider on loopback."""

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from service.app import AppContext, build_app
from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from service.settings import ServiceSettings
from tests.oidc_server.server import OIDCServer
from tests.service.web.account_sign_in.steps import (
    BODY,
    CALLBACK,
    FORM,
    OWNER,
    PUBLIC,
    consent,
    form_token,
    given_token,
    leave,
    sign_in,
)


def test_the_page_offers_the_account_and_the_key(http: TestClient) -> None:
    page = http.get("/sign-in").text

    assert "Sign in with Hugging Face" in page
    assert 'name="key"' in page


def test_the_browser_is_sent_off_with_state_nonce_and_challenge_only(http: TestClient, provider: OIDCServer) -> None:
    url = httpx2.URL(leave(http))

    assert str(url).startswith(f"{provider.url}/oauth/authorize?")
    assert set(url.params) == {
        *("client_id", "response_type", "redirect_uri", "scope"),
        *("state", "nonce", "code_challenge", "code_challenge_method"),
    }
    assert url.params["scope"] == "openid profile contribute-repos gated-repos"
    assert url.params["code_challenge_method"] == "S256"


def test_signing_in_opens_a_session_and_leads_on(http: TestClient) -> None:
    answer = sign_in(http, "/jobs?state=failed")

    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
    page = http.get("/jobs", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "Signed in as <strong>ann</strong>" in page.text


def test_jobs_belong_to_the_account_and_publish_with_its_access(
    http: TestClient, job_store: MemoryJobStore, vault: CredentialVault, provider: OIDCServer
) -> None:
    sign_in(http)

    answer = http.post("/jobs", data={**FORM, "csrf_token": form_token(http)}, follow_redirects=False)

    assert answer.status_code == 303
    assert [job.owner for job in job_store.list(JobFilter(), limit=10).jobs] == [OWNER]
    assert given_token(job_store, vault) == provider.state.access_token


def test_a_typed_token_goes_before(http: TestClient, job_store: MemoryJobStore, vault: CredentialVault) -> None:
    sign_in(http)

    http.post("/jobs", data={**FORM, "csrf_token": form_token(http), "hub_token": "hf_typed0123456789"})

    assert given_token(job_store, vault) == "hf_typed0123456789"


def test_a_retry_publishes_with_the_access_of_today(
    http: TestClient, job_store: MemoryJobStore, vault: CredentialVault, provider: OIDCServer
) -> None:
    sign_in(http)
    token = form_token(http)
    http.post("/jobs", data={**FORM, "csrf_token": token})
    (job,) = job_store.list(JobFilter(), limit=1).jobs
    http.post(f"/jobs/{job.id}/cancel", data={"csrf_token": token})

    http.post(f"/jobs/{job.id}/retry", data={"csrf_token": token})

    assert given_token(job_store, vault) == provider.state.access_token


def test_no_cookie_is_open_to_scripts_or_shows_the_access(http: TestClient, provider: OIDCServer) -> None:
    path = consent(leave(http))

    answer = http.get(path, follow_redirects=False)

    cookies = answer.headers.get_list("set-cookie")
    assert {cookie.split("=")[0] for cookie in cookies} == {
        *("srr_session", "srr_hub_access", "srr_pending_sign_in"),
    }
    assert all("httponly" in cookie.lower() and "samesite=lax" in cookie.lower() for cookie in cookies)
    assert provider.state.access_token not in "".join(cookies)
    assert http.cookies.get("srr_pending_sign_in") is None


def test_neither_code_nor_access_is_logged(http: TestClient, provider: OIDCServer) -> None:
    path = consent(leave(http))

    with capture_logs() as events:
        http.get(path, follow_redirects=False)
        http.get(path, follow_redirects=False)

    names = [event["event"] for event in events if event["event"] != "request_finished"]
    assert names == ["signed_in", "sign_in_failed"]
    assert provider.state.access_token not in str(events)
    assert httpx2.URL(path).params["code"] not in str(events)


def test_signing_out_forgets_session_and_access(http: TestClient) -> None:
    sign_in(http)

    http.post("/sign-out", data={"csrf_token": form_token(http)})

    assert http.get("/v1/jobs").status_code == 401
    assert not {"srr_session", "srr_hub_access"} & set(http.cookies)


def test_any_process_finishes_what_another_began(
    application: FastAPI, settings: ServiceSettings, app_context: AppContext
) -> None:
    with TestClient(application, base_url=PUBLIC) as first:
        path = consent(leave(first))
        cookies = first.cookies

    with TestClient(build_app(settings, app_context), base_url=PUBLIC, cookies=cookies) as second:
        second.get(path, follow_redirects=False)
        assert second.get("/v1/jobs").status_code == 200


def test_the_way_back_does_not_follow_the_host_header(http: TestClient) -> None:
    answer = http.get("http://127.0.0.1/sign-in/huggingface", follow_redirects=False)

    assert httpx2.URL(answer.headers["location"]).params["redirect_uri"] == PUBLIC + CALLBACK


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_signing_in_never_leads_elsewhere(http: TestClient, target: str) -> None:
    answer = sign_in(http, target)
    straight = http.get("/sign-in/huggingface", params={"next": target}, follow_redirects=False)

    assert answer.headers["location"] == "/"
    assert http.get(consent(straight.headers["location"]), follow_redirects=False).headers["location"] == "/"


def test_a_session_reads_over_rest_but_changes_nothing_there(http: TestClient) -> None:
    sign_in(http)

    assert http.get("/v1/jobs").status_code == 200
    assert http.post("/v1/jobs", json=BODY).status_code == 401


def test_metadata_are_asked_for_once(http: TestClient, provider: OIDCServer) -> None:
    sign_in(http)
    sign_in(http)

    assert provider.state.requests.count("/.well-known/openid-configuration") == 1


class TestAPublicApplication:
    @pytest.fixture
    def choices(self) -> dict[str, Any]:
        return {"oauth_client_secret": None}

    def test_needs_no_secret(self, http: TestClient, provider: OIDCServer) -> None:
        provider.state.client_secret = None

        assert sign_in(http).status_code == 303


class TestWithoutAccounts:
    @pytest.fixture(params=["none", "keys"])
    def choices(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"sign_in": request.param}

    def test_the_way_to_the_provider_is_closed(self, http: TestClient) -> None:
        there = http.get("/sign-in/huggingface", follow_redirects=False)
        back = http.get(CALLBACK, follow_redirects=False)

        assert [there.headers["location"], back.headers["location"]] == ["/sign-in", "/sign-in"]
        assert "Hugging Face account" not in http.get("/sign-in").text
