"""What people let us do at the Hub: which jobs are given it, and what is said when it ends."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter, Lease
from tests.oidc_server.server import OIDCServer
from tests.service import finished
from tests.service.web.account_sign_in.steps import FORM, consent, form_token, given_token, sign_in


def test_an_access_that_ends_is_noticed_before_the_job_and_the_form_comes_back(
    http: TestClient, job_store: MemoryJobStore, provider: OIDCServer
) -> None:
    provider.state.expires_in = 0
    sign_in(http)

    refused = http.post("/jobs", data={**FORM, "csrf_token": form_token(http), "num_bits": "2"})

    assert refused.status_code == 422
    assert "perhaps before this job could publish" in refused.text
    assert job_store.list(JobFilter(), limit=1).jobs == ()
    again = re.search(r'href="([^"]+)">Sign in with Hugging Face again', refused.text)
    assert again is not None
    there = http.get(html.unescape(again[1]), follow_redirects=False).headers["location"]
    back = http.get(consent(there))
    assert 'value="org/model"' in back.text


def test_an_access_that_ends_is_noticed_by_a_check_and_by_a_retry(
    http: TestClient, job_store: MemoryJobStore, provider: OIDCServer
) -> None:
    sign_in(http)
    http.post("/jobs", data={**FORM, "csrf_token": form_token(http)})
    (job,) = job_store.list(JobFilter(), limit=1).jobs
    job_store.cancel(job.id)
    provider.state.expires_in = 0
    sign_in(http)
    token = form_token(http)

    checked = http.post("/check", data={**FORM, "csrf_token": token}, headers={"HX-Request": "true"})
    retried = http.post(f"/jobs/{job.id}/retry", data={"csrf_token": token}, headers={"Accept": "text/html"})

    assert "hub_access_ended" in checked.text
    assert retried.status_code == 403
    assert "Sign in again" in retried.text
    assert job_store.get(job.id).state == "canceled"


def test_an_access_does_not_outlive_itself_with_a_job(
    http: TestClient, job_store: MemoryJobStore, provider: OIDCServer
) -> None:
    provider.state.expires_in = 3600
    sign_in(http)
    http.post("/jobs", data={**FORM, "csrf_token": form_token(http)})
    (job,) = job_store.list(JobFilter(), limit=1).jobs
    assert job_store.claim(job.id, 1, worker=finished.WORKER, lasts=finished.LEASE) is not None

    sealed = job_store.credential(Lease(job.id, 1, finished.WORKER))

    assert sealed is not None
    assert abs(sealed.expires_at - job.created_at - timedelta(hours=1)) < timedelta(minutes=1)


@pytest.mark.parametrize("cookie", ["", "gAAAAA-forged"])
def test_an_access_that_was_lost_is_asked_for_again(http: TestClient, job_store: MemoryJobStore, cookie: str) -> None:
    sign_in(http)
    token = form_token(http)
    http.cookies.delete("srr_hub_access")
    http.cookies.set("srr_hub_access", cookie)

    refused = http.post("/jobs", data={**FORM, "csrf_token": token})

    assert "that you gave by signing in is gone" in refused.text
    assert job_store.list(JobFilter(), limit=1).jobs == ()


class TestScopesThatCannotPublish:
    @pytest.fixture
    def choices(self) -> dict[str, Any]:
        return {"oauth_scopes": "openid profile"}

    def test_leave_the_token_to_be_typed(
        self, http: TestClient, job_store: MemoryJobStore, vault: CredentialVault
    ) -> None:
        sign_in(http)
        form = {**FORM, "csrf_token": form_token(http)}

        without = http.post("/jobs", data=form)
        http.post("/jobs", data={**form, "hub_token": "hf_typed0123456789"})

        assert "srr_hub_access" not in http.cookies
        assert "give one of your own" in without.text
        assert given_token(job_store, vault) == "hf_typed0123456789"
