"""Redis goes away under a service with keys: it answers, keeps what is submitted, and sends it when Redis is back."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from fastapi.testclient import TestClient
from pydantic import SecretStr

from service.app import create_app
from service.hub.settings import HubSettings
from service.jobs.settings import JobsSettings
from service.keys.access import issue_key
from service.keys.rate_limit import REST_SECONDS, FallbackRateLimiter, MemoryRateLimiter, RedisRateLimiter
from service.keys.schema import ALL_SCOPES
from service.keys.store import KeyStore
from service.platform.database import migrate, open_database
from service.platform.redis_client import redis_client
from service.settings import ServiceSettings
from tests.chaos.stores import wait_until
from tests.servers import ServerMissingError, redis_server
from tests.service.models import write_model
from worker.folder_hub import FolderHub


@dataclass
class Place:
    """A service with keys over a Redis of its own, which can be stopped and started again."""

    http: TestClient
    header: dict[str, str]
    url: str
    servers: ExitStack

    def stop_redis(self) -> None:
        self.servers.close()

    def start_redis(self) -> None:
        self.servers.enter_context(redis_server(urlsplit(self.url).port))

    def submit(self, name: str) -> int:
        body = {"source": {"model_id": "org/model"}, "destination": {"repo_id": f"org/{name}"}, "recipe": "lqer"}
        return int(self.http.post("/v1/jobs", json=body, headers=self.header).status_code)

    def is_ready(self) -> str:
        return str(self.http.get("/readyz").json()["status"])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as servers:
        try:
            url = servers.enter_context(redis_server())
        except ServerMissingError as error:
            pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))
        jobs = JobsSettings(data_dir=tmp_path, broker_url=SecretStr(url), maintenance_seconds=0.1)
        engine = open_database(jobs.resolved_database_url)
        migrate(engine)
        issued = issue_key(KeyStore(engine), name="n", owner="ann", scopes=ALL_SCOPES)
        engine.dispose()
        FolderHub(tmp_path / "hub").import_model(write_model(tmp_path / "model"), "org/model")
        hubs = HubSettings.model_validate({"source_hub": "folder", "destination_hub": "folder"})
        application = create_app(ServiceSettings(sign_in="keys"), jobs, hubs)
        with TestClient(application, base_url="http://localhost", raise_server_exceptions=False) as http:
            yield Place(http, {"Authorization": f"Bearer {issued.text}"}, url, servers)


def test_requests_are_answered_and_jobs_are_kept_until_redis_is_back(place: Place) -> None:
    before = place.submit("before")
    wait_until(lambda: place.is_ready() == "ok", "the service to have started")
    place.stop_redis()

    during = [place.submit("during"), place.http.get("/v1/jobs", headers=place.header).status_code]
    wait_until(lambda: place.is_ready() == "degraded", "the service to notice")
    metrics = place.http.get("/metrics", headers=place.header)
    place.start_redis()

    assert before == 202
    assert during == [202, 200]
    assert (metrics.status_code, 'srr_up{part="broker"} 0.0' in metrics.text) == (200, True)
    wait_until(lambda: place.is_ready() == "ok", "the service to notice")
    with redis.Redis.from_url(place.url) as client:
        wait_until(lambda: client.llen("srr:srr-jobs") >= 1, "the kept job to be sent")


def test_a_redis_that_hangs_costs_one_request_a_moment(redis_url: str) -> None:
    with redis_server() as url, redis_client(url) as client:
        frozen = int(client.info("server")["process_id"])
        limiter = FallbackRateLimiter(RedisRateLimiter(client, prefix="t:"))
        assert limiter.hit("k", per_minute=2).remaining == 1
        os.kill(frozen, signal.SIGSTOP)
        try:
            decisions = [limiter.hit("k", per_minute=2) for _ in range(3)]
        finally:
            os.kill(frozen, signal.SIGCONT)

    # What was counted in Redis is not known here: a limit still holds, but a new one.
    assert [decision.allowed for decision in decisions] == [True, True, False]


class Hand:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Switch:
    """A shared limiter that can be cut off, and counts how often it is asked."""

    def __init__(self) -> None:
        self.inner, self.is_down, self.asked = MemoryRateLimiter(clock=lambda: 0.0), False, 0

    def hit(self, key_id: str, *, per_minute: int) -> object:
        self.asked += 1
        if self.is_down:
            raise redis.ConnectionError("away")
        return self.inner.hit(key_id, per_minute=per_minute)


def test_redis_is_asked_again_after_a_moment() -> None:
    clock, shared = Hand(), Switch()
    limiter = FallbackRateLimiter(shared, clock=clock)  # type: ignore[arg-type]
    shared.is_down = True

    [limiter.hit("k", per_minute=5) for _ in range(4)]
    asked = shared.asked
    shared.is_down = False
    clock.now += REST_SECONDS
    again = limiter.hit("k", per_minute=5)

    assert (asked, shared.asked) == (1, 2)
    assert again.remaining == 4
