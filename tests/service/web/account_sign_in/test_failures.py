"""Every way a sign-in can fail: each ends on the sign-in page, with one sentence, and nobody is signed in."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.oidc_server.server import ANN, OIDCServer
from tests.service.web.account_sign_in.steps import CALLBACK, complaint, consent, leave, sign_in


@pytest.fixture(autouse=True)
def nobody_is_signed_in(http: TestClient) -> Iterator[None]:
    yield
    assert "srr_session" not in http.cookies
    assert http.get("/v1/jobs").status_code == 401


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        ("access_denied", 403, "You did not allow this"),
        ("temporarily_unavailable", 503, "has trouble"),
        ("invalid_scope", 502, "refused this sign-in (invalid_scope)"),
        ("<b>call this number</b>", 502, "refused this sign-in (no known reason)"),
    ],
)
def test_the_provider_sends_the_browser_back_without_a_code(
    http: TestClient, provider: OIDCServer, error: str, status: int, sentence: str
) -> None:
    provider.state.error = error

    answer = sign_in(http)

    assert answer.status_code == status
    assert sentence in complaint(answer)


def test_an_answer_that_belongs_to_no_sign_in_of_this_browser(http: TestClient) -> None:
    path = consent(leave(http))
    http.cookies.clear()

    answer = http.get(path, follow_redirects=False)

    assert answer.status_code == 400
    assert "Sign in again" in complaint(answer)


def test_an_answer_to_somebody_elses_sign_in(http: TestClient) -> None:
    # What an attacker would try: their own code and state, in the browser of somebody who also began to sign in.
    theirs = consent(leave(http))
    leave(http)

    answer = http.get(theirs, follow_redirects=False)

    assert answer.status_code == 400
    assert "belongs to a sign-in from elsewhere" in complaint(answer)


def test_an_answer_with_an_error_but_the_wrong_state_is_not_believed(http: TestClient) -> None:
    leave(http)

    answer = http.get(CALLBACK, params={"state": "x", "error": "access_denied"}, follow_redirects=False)

    assert answer.status_code == 400


def test_a_sign_in_that_took_too_long(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    path = consent(leave(http))
    monkeypatch.setattr("service.accounts.pending.SIGN_IN_LIFETIME", timedelta(seconds=-1))

    answer = http.get(path, follow_redirects=False)

    assert answer.status_code == 400
    assert "took too long" in complaint(answer)


def test_a_code_that_was_stolen_without_the_cookie_is_worth_nothing(http: TestClient, provider: OIDCServer) -> None:
    stolen = httpx2.URL(consent(leave(http))).params["code"]
    own = httpx2.URL(consent(leave(http))).params

    answer = http.get(CALLBACK, params={"state": own["state"], "code": stolen}, follow_redirects=False)

    assert answer.status_code == 502
    assert "invalid_grant" in complaint(answer)


def test_an_answer_without_a_code(http: TestClient) -> None:
    state = httpx2.URL(leave(http)).params["state"]

    answer = http.get(CALLBACK, params={"state": state}, follow_redirects=False)

    assert answer.status_code == 502
    assert complaint(answer)


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/jwks", "/oauth/userinfo"])
def test_a_provider_that_is_down_on_the_way_back(http: TestClient, provider: OIDCServer, path: str) -> None:
    back = consent(leave(http))
    provider.state.down = frozenset({path})

    answer = http.get(back, follow_redirects=False)

    assert answer.status_code == 503
    assert "Try again in a while" in complaint(answer)


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/jwks", "/oauth/userinfo"])
def test_a_provider_that_talks_nonsense(http: TestClient, provider: OIDCServer, path: str) -> None:
    back = consent(leave(http))
    provider.state.garbage = frozenset({path})

    answer = http.get(back, follow_redirects=False)

    assert answer.status_code == 502
    assert "makes no sense" in complaint(answer)


def test_a_provider_that_is_down_from_the_start(http: TestClient, provider: OIDCServer) -> None:
    provider.state.down = frozenset({"/.well-known/openid-configuration"})

    answer = http.get("/sign-in/huggingface")

    assert answer.status_code == 503
    assert "it answered 503" in complaint(answer)


def test_a_provider_that_does_not_answer_in_time(
    http: TestClient, provider: OIDCServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.accounts.provider._READ_SECONDS", 0.05)
    provider.state.slow_seconds = 0.5

    answer = http.get("/sign-in/huggingface")

    assert answer.status_code == 503
    assert "could not be reached" in complaint(answer)


def test_metadata_of_another_issuer(http: TestClient, provider: OIDCServer) -> None:
    provider.state.issuer = "https://elsewhere.example"

    answer = http.get("/sign-in/huggingface")

    assert answer.status_code == 502
    assert "another issuer" in complaint(answer)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("issuer", "invalid_claim iss"),
        ("audience", "invalid_claim aud"),
        ("nonce", "invalid_claim nonce"),
        ("expired", "expired_token exp"),
        ("access_token", "invalid_claim at_hash"),
        ("signature", "bad_signature"),
        ("symmetric", "unsupported_algorithm"),
        ("unsigned", "unsupported_algorithm"),
        ("subject", "somebody else"),
    ],
)
def test_an_identity_that_is_not_proven(http: TestClient, provider: OIDCServer, lie: Any, reason: str) -> None:
    provider.state.lie = lie

    answer = sign_in(http)

    assert answer.status_code == 502
    assert reason in complaint(answer)


def test_a_wrong_client_secret(http: TestClient, provider: OIDCServer) -> None:
    provider.state.client_secret = "changed at the provider"

    answer = sign_in(http)

    assert answer.status_code == 502
    assert "invalid_client" in complaint(answer)


def test_an_account_without_a_name(http: TestClient, provider: OIDCServer) -> None:
    provider.state.person = replace(ANN, name="")

    answer = sign_in(http)

    assert answer.status_code == 502
    assert "scope 'profile'" in complaint(answer)


def test_an_access_token_that_no_cookie_holds(http: TestClient, provider: OIDCServer) -> None:
    provider.state.access_token = "hf_oauth_" + "x" * 4000

    answer = sign_in(http)

    assert answer.status_code == 502
    assert "too long to keep" in complaint(answer)
