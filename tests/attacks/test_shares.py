"""What one owner takes is not what everybody else lacks: streams, keys, endpoints, watches; and what ends, ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from service.edge.sessions import SESSION_COOKIE
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobEvent
from service.jobs.workers import Worker
from service.keys.store import MAX_KEYS
from service.notifications.store import MAX_ENDPOINTS
from service.platform.clock import utc_now
from service.releases.store import MAX_WATCHES
from service.submissions.feed import EventFeed, TooManyStreamsError
from tests.attacks.conftest import Installation
from tests.service import finished


def test_streams_of_one_owner_leave_room_for_the_others() -> None:
    store = MemoryJobStore()
    job = finished.running(store)
    feed = EventFeed(store, poll_seconds=0.01, max_streams=10, max_streams_of_one=4)

    async def hold(owner: str) -> AsyncIterator[JobEvent]:
        stream = feed.follow(job.id, owner=owner)
        await anext(stream)
        return stream

    async def attack() -> tuple[int, int]:
        held = [await hold("mallory") for _ in range(4)]
        with pytest.raises(TooManyStreamsError):
            feed.require_room("mallory")
        late = [event async for event in feed.follow(job.id, owner="mallory")]
        feed.require_room("ann")
        held.append(await hold("ann"))
        at_most = feed.streams
        [await stream.aclose() for stream in held]  # type: ignore[attr-defined]
        feed.require_room("mallory")
        return at_most, len(late)

    assert asyncio.run(attack()) == (5, 0)


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        ("/v1/api-keys", {"name": "n", "scopes": ["jobs:read"]}, MAX_KEYS - 1),  # the caller's own is one
        ("/v1/webhook-endpoints", {"url": "https://93.184.215.14/hook"}, MAX_ENDPOINTS),
        ("/v1/watches", {"name": "n", "pattern": "org/*", "destination": "org/{name}-{recipe}"}, MAX_WATCHES),
    ],
)
def test_an_owner_has_so_many_and_no_more(
    installation: Installation, path: str, body: dict[str, object], most: int
) -> None:
    header = installation.bearer("mallory")

    statuses = [installation.http.post(path, json=body, headers=header).status_code for _ in range(most)]
    more = installation.http.post(path, json=body, headers=header)
    other = installation.http.post(path, json=body, headers=installation.bearer("ann"))

    assert set(statuses) == {201}
    assert (more.status_code, more.json()["code"]) == (409, "limit_reached")
    assert other.status_code == 201


def test_a_cookie_that_was_copied_does_not_outlive_signing_out(installation: Installation) -> None:
    http = installation.http
    text = installation.bearer("ann")["Authorization"].removeprefix("Bearer ")
    page = http.get("/sign-in").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    http.post("/sign-in", data={"key": text, "csrf_token": token}, follow_redirects=False)
    stolen = http.cookies[SESSION_COOKIE]
    before = http.get("/v1/jobs").status_code

    http.post("/sign-out", data={"csrf_token": token}, follow_redirects=False)
    http.cookies.clear()
    http.cookies.set(SESSION_COOKIE, stolen)

    assert (before, http.get("/v1/jobs").status_code) == (200, 401)


def test_workers_that_died_are_forgotten_within_hours(installation: Installation) -> None:
    now = utc_now()
    facts = {"host": "h", "device": "cpu", "version": "1", "has_hub_token": True, "started_at": now}
    installation.workers.beat(Worker.model_validate(facts | {"name": "dead", "seen_at": now - timedelta(hours=2)}))

    installation.workers.beat(Worker.model_validate(facts | {"name": "alive", "seen_at": now}))

    assert "dead" not in {worker.name for worker in installation.workers.list()}
