"""Secrets that were planted in an installation, looked for wherever it leaves something: nowhere are they in clear."""

import io
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from sqlalchemy import inspect, text

from service.jobs.maintenance import flush_duty
from service.jobs.queue import CeleryJobQueue, create_celery
from service.jobs.schema import JobState, SealedSecret
from service.jobs.settings import JobsSettings
from service.platform.database import reading
from service.platform.logging import configure_logging
from service.releases.watches import SECRET_EXPIRES
from service.settings import ServiceSettings
from tests.attacks.conftest import Installation
from tests.attacks.routes import ways
from tests.hub_server.repositories import User
from tests.service.releases.conftest import payload
from worker.supervisor import _WITHHELD

TOKEN = "hf_PlantedTokenOfTheJob123456"
FORM_SECRET = "planted-form-secret-of-at-least-32-characters"
ENVIRONMENT = {name: f"planted-{name.lower()}" for name in _WITHHELD}


@pytest.fixture
def settings() -> ServiceSettings:
    """A service with a secret of its own."""
    return ServiceSettings(sign_in="keys", event_poll_seconds=0.01, form_secret=FORM_SECRET)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything this process logs, as it does in production."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    configure_logging(level="DEBUG", stream=stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


@pytest.fixture
def planted(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Secrets of every kind, by what they are; they are all in use."""
    [monkeypatch.setenv(name, value) for name, value in ENVIRONMENT.items()]
    installation.hub.state.users[TOKEN] = User("carol")
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")
    rules = {"name": "w", "pattern": "acme/*", "recipes": ["lqer"], "destination": "acme/{name}-{recipe}"}
    watch = installation.http.post("/v1/watches", json=rules, headers=header).json()
    sealed = installation.watches.secret(watch["id"])
    assert sealed is not None
    secret = installation.vault.open(SealedSecret(ciphertext=sealed, expires_at=SECRET_EXPIRES))
    return {
        "key": header["Authorization"].removeprefix("Bearer "),
        "token": TOKEN,
        "form secret": FORM_SECRET,
        "watch": secret,
        "watch id": watch["id"],
        **ENVIRONMENT,
    }


def found_in(place: bytes, planted: Mapping[str, str]) -> set[str]:
    """Return the names of secrets that are in clear somewhere."""
    return {name for name, value in planted.items() if name != "watch id" and value.encode() in place}


def test_no_secret_is_left_anywhere(
    installation: Installation,
    planted: dict[str, str],
    logged: io.StringIO,
    redis_url: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    header = {"Authorization": f"Bearer {planted['key']}"}
    answer = installation.submit(header, "org/model", "carol/out", hub_token=TOKEN)
    queued = {"the answer": answer.content, "the broker": _broker(installation, redis_url), **_kept(installation)}

    job = installation.work(answer.json()["id"], "tell_environment", own_token="hf_PlantedTokenOfTheWorker1")
    hook = f"/v1/hooks/huggingface/{planted['watch id']}"
    installation.http.post(hook, json=payload("acme/x", "a" * 40), headers={"X-Webhook-Secret": planted["watch"]})
    installation.http.get(f"/v1/jobs/no?token={TOKEN}", headers=header)
    installation.submit(header, "org/model", "carol/out", hub_token=f"{TOKEN}x", force=True)
    out = capfd.readouterr()

    assert (job.state, job.failure) == (JobState.SUCCEEDED, None)
    places = {
        **{f"{name}, queued": content for name, content in queued.items()},
        **_kept(installation),
        **_told(installation, header, job.id),
        "the log": logged.getvalue().encode(),
        "the log of the job": (out.out + out.err).encode(),
        "the artifact": _artifact(installation, "carol/out"),
    }
    assert "request_finished" in logged.getvalue()
    assert b"HF_HUB_DISABLE_IMPLICIT_TOKEN" in places["environment"]
    assert all(places[name] for name in ("the broker, queued", "the artifact", "/metrics", "database"))
    planted["the worker's token"] = "hf_PlantedTokenOfTheWorker1"
    leaks = {name: found for name, content in places.items() if (found := found_in(content, planted))}
    assert leaks == {}


def test_the_search_would_find_them(planted: dict[str, str]) -> None:
    assert found_in("\n".join(planted.values()).encode(), planted) == planted.keys() - {"watch id"}


def _broker(installation: Installation, redis_url: str) -> bytes:
    """Send what waits, and return everything that Redis holds then."""
    jobs = JobsSettings(data_dir=installation.data_dir, broker_url=redis_url, queue_name="planted")
    application = create_celery(jobs)
    try:
        flush_duty(installation.store, CeleryJobQueue(application, jobs.queue_name))()
    finally:
        application.close()
    with redis.Redis.from_url(redis_url) as client:
        return b"\n".join(key + (client.dump(key) or b"") for key in client.scan_iter())


def _kept(installation: Installation) -> dict[str, bytes]:
    """Return every file below the data directory, and every row of every table."""
    files = {path.name: path.read_bytes() for path in Path(installation.data_dir).rglob("*") if path.is_file()}
    with reading(installation.engine) as connection:
        rows = [
            repr(tuple(row))
            for table in inspect(connection).get_table_names()
            for row in connection.execute(text(f'SELECT * FROM "{table}"'))  # names of our own tables
        ]
    return files | {"database": "\n".join(rows).encode()}


def _told(installation: Installation, header: dict[str, str], job_id: str) -> dict[str, bytes]:
    """Return every page and every answer of the API that can be read without more than the id of the job."""
    readable: Any = [way for way in ways(installation.http.app) if way.method == "GET"]  # type: ignore[arg-type]
    paths = [way.path.replace("{job_id}", job_id) for way in readable if not way.path.endswith("/events")]
    return {path: installation.http.get(path, headers=header).content for path in paths if "{" not in path}


def _artifact(installation: Installation, repo_id: str) -> bytes:
    files = installation.hub.repository(repo_id).head.files
    return b"\n".join(installation.hub.state.content(file) or b"" for file in files.values())
