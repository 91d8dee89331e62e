"""What a browser without a script does: load a page, keep its cookie, send its form."""

import re

from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter

FORM = {"model_id": "org/model", "revision": "main", "repo_id": "", "visibility": "", "recipe": "srr"}


def token_of(http: TestClient, path: str = "/") -> str:
    """Load a page and return the token of its form; the cookie stays in the client."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', http.get(path).text)
    assert found is not None
    return found[1]


def only_job(store: MemoryJobStore) -> str:
    """Return the id of the only job there is."""
    (job,) = store.list(JobFilter(), limit=10).jobs
    return job.id
