"""What a person with a browser does to sign in, step by step."""

import html
import re

import httpx2
from fastapi.testclient import TestClient

from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter, Lease
from tests.oidc_server.server import ANN
from tests.service import finished

PUBLIC = "http://localhost"
CALLBACK = "/sign-in/huggingface/callback"
OWNER = f"hf:{ANN.subject}"
FORM = {"model_id": "org/model", "revision": "main", "repo_id": "", "visibility": "", "recipe": "srr"}
BODY = {"source": {"model_id": "org/model"}, "destination": {"repo_id": "org/out"}}


def leave(http: TestClient, following: str = "/") -> str:
    """Follow the link of the sign-in page; return where the browser is sent."""
    page = http.get("/sign-in", params={"next": following}).text
    link = re.search(r'href="([^"]*/sign-in/huggingface[^"]*)"', page)
    assert link is not None
    return http.get(html.unescape(link[1]), follow_redirects=False).headers["location"]


def consent(url: str) -> str:
    """Agree at the provider; return the path the browser is sent back to."""
    answer = httpx2.get(url, follow_redirects=False, trust_env=False)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].removeprefix(PUBLIC)


def sign_in(http: TestClient, following: str = "/") -> httpx2.Response:
    """Go the whole way; return the answer to the browser that came back."""
    return http.get(consent(leave(http, following)), follow_redirects=False)


def form_token(http: TestClient, path: str = "/") -> str:
    """Load a page and return the token of its form."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', http.get(path).text)
    assert found is not None
    return found[1]


def complaint(answer: httpx2.Response) -> str:
    """Return the sentence on the sign-in page."""
    found = re.search(r'role="alert"><p>([^<]+)</p>', answer.text)
    assert found is not None, answer.text
    return html.unescape(found[1])


def given_token(store: MemoryJobStore, vault: CredentialVault) -> str:
    """Return the Hub token that the worker finds with the only job."""
    (job,) = store.list(JobFilter(), limit=10).jobs
    assert store.claim(job.id, job.attempt, worker=finished.WORKER, lasts=finished.LEASE) is not None
    sealed = store.credential(Lease(job.id, job.attempt, finished.WORKER))
    assert sealed is not None
    return vault.open(sealed)
