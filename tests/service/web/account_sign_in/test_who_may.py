"""Who may sign in, with which keys beside, and what settings that needs."""

import re
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.accounts import Admission
from service.edge.callers import KeyHolders
from service.edge.sessions import Sessions
from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES
from service.keys.store import KeyStore
from service.settings import ServiceSettings
from tests.oidc_server.server import ANN
from tests.service.web.account_sign_in.steps import BODY, OWNER, complaint, form_token, sign_in


class TestAListOfWhoMaySignIn:
    @pytest.fixture(params=["ann, bob", ANN.subject, "ACME"])
    def choices(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"oauth_allowed": request.param}

    def test_lets_in_who_is_named_by_name_id_or_organization(self, http: TestClient) -> None:
        assert sign_in(http).status_code == 303

    def test_ends_the_sessions_of_who_is_taken_off(
        self, http: TestClient, application: FastAPI, keys: KeyStore, settings: ServiceSettings
    ) -> None:
        sign_in(http)
        services, secret = application.state.services, settings.form_secret
        assert secret is not None
        shorter = KeyHolders(keys, services.callers._limiter, Sessions(secret.get_secret_value()), Admission(("bob",)))
        application.state.services = replace(services, callers=shorter)

        assert http.get("/v1/jobs").status_code == 401


class TestAListWithoutAnn:
    @pytest.fixture(params=["bob", "locked"])  # she has not met the conditions of `locked`
    def choices(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"oauth_allowed": request.param}

    def test_keeps_her_out(self, http: TestClient) -> None:
        answer = sign_in(http)

        assert answer.status_code == 403
        assert "not open to ann" in complaint(answer)
        assert http.get("/v1/jobs").status_code == 401


def test_a_key_of_the_operator_works_for_programs_and_in_the_form(http: TestClient, keys: KeyStore) -> None:
    text = issue_key(keys, name="ci", owner="ci", scopes=ALL_SCOPES).text

    submitted = http.post("/v1/jobs", json=BODY, headers={"Authorization": f"Bearer {text}"})
    http.post("/sign-in", data={"key": text, "csrf_token": form_token(http, "/sign-in")})

    assert submitted.status_code == 202
    assert http.get("/v1/jobs").json()["jobs"][0]["id"] == submitted.json()["id"]


def test_a_session_of_a_key_does_not_inherit_the_access_of_an_account(http: TestClient, keys: KeyStore) -> None:
    text = issue_key(keys, name="ci", owner="ci", scopes=ALL_SCOPES).text
    sign_in(http)

    http.post("/sign-in", data={"key": text, "csrf_token": form_token(http, "/sign-in")})

    assert "srr_hub_access" not in http.cookies


def test_a_key_that_an_account_makes_is_its_own_and_brings_its_own_token(http: TestClient, keys: KeyStore) -> None:
    sign_in(http)
    form = {"csrf_token": form_token(http), "name": "nightly", "scopes": ["jobs:read", "jobs:write"]}
    text = re.search(r"srr_[0-9a-z]{16}_[\w-]{43}", http.post("/keys", data=form).text)
    assert text is not None
    header = {"Authorization": f"Bearer {text[0]}"}

    without = http.post("/v1/jobs", json=BODY, headers=header)
    with_one = http.post("/v1/jobs", json={**BODY, "hub_token": "hf_own0123456789"}, headers=header)

    assert [key.owner for key in keys.list(None)] == [OWNER]
    assert (without.status_code, without.json()["code"]) == (422, "invalid_job")
    assert with_one.status_code == 202


def test_an_account_makes_no_watches(http: TestClient, keys: KeyStore) -> None:
    sign_in(http)
    form = {"csrf_token": form_token(http), "name": "ours", "pattern": "org/*", "destination": "us/{name}"}
    text = issue_key(keys, name="by the operator", owner=OWNER, scopes=ALL_SCOPES).text

    on_the_page = http.post("/watches", data=form, headers={"Accept": "text/html"})
    over_rest = http.post("/v1/watches", json={}, headers={"Authorization": f"Bearer {text}"})

    assert (on_the_page.status_code, over_rest.status_code) == (403, 403)


def test_a_client_id_is_needed_and_a_secret_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="SERVICE_OAUTH_CLIENT_ID") as refused:
        ServiceSettings.model_validate({"sign_in": "huggingface", "oauth_client_secret": "very secret"})

    assert "very secret" not in str(refused.value)


def test_the_scopes_that_tell_who_somebody_is_are_needed() -> None:
    with pytest.raises(ValueError, match="lacks profile"):
        ServiceSettings(sign_in="huggingface", oauth_client_id="x", oauth_scopes="openid contribute-repos")
