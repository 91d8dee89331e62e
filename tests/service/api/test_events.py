"""The event stream and the log of a job."""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobEvent, Lease
from service.submissions.feed import BATCH, RETAINED_EVENTS, EventFeed
from tests.service import finished


def read_events(http: TestClient, job_id: str, **headers: str) -> list[tuple[str, str | None, dict[str, object]]]:
    """Return (event, id, data) of a whole stream; only ends when the server ends it."""
    events = []
    for block in http.get(f"/v1/jobs/{job_id}/events", headers=headers).text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        events.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return events


def test_a_finished_job_is_told_from_the_beginning_and_the_stream_ends(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    job = finished.succeeded(job_store)

    events = read_events(http, job.id)

    assert [data["data"]["state"] for name, _, data in events if name == "state"] == [  # type: ignore[index]
        "queued",
        "running",
        "publishing",
        "succeeded",
    ]
    assert [int(number) for _, number, _ in events[:-1] if number] == list(range(1, len(events)))
    assert events[-1] == ("end", None, {"state": "succeeded"})


def test_a_stream_resumes_behind_the_last_event_id(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store)
    everything = read_events(http, job.id)

    rest = read_events(http, job.id, **{"Last-Event-ID": "2"})

    assert rest == everything[2:]


def test_events_are_sent_as_they_happen(
    http: TestClient, job_store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished.running(job_store)
    is_caught_up, read = threading.Event(), job_store.events

    def note(*arguments: Any, **options: Any) -> Sequence[JobEvent]:
        events = read(*arguments, **options)
        if not events:  # the stream has sent all there was, and waits
            is_caught_up.set()
        return events

    monkeypatch.setattr(job_store, "events", note)

    def work() -> None:
        assert is_caught_up.wait(30)
        finished.finish_layer(job_store, job, "layer.0", error=0.25, preserved_rank=2)
        finished.finish(job_store, job)

    worker = threading.Thread(target=work)
    worker.start()
    events = read_events(http, job.id)
    worker.join()

    layers = [data["data"] for name, _, data in events if name == "layer"]
    assert layers[0]["output_error"] == 0.25  # type: ignore[index]
    assert events[-1][0] == "end"


def test_a_made_up_event_id_is_refused(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.queued(job_store)

    response = http.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "x"})

    assert response.status_code == 422


def test_the_log_is_read_in_pages(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store)

    first = http.get(f"/v1/jobs/{job.id}/logs", params={"limit": 2}).json()["events"]
    rest = http.get(f"/v1/jobs/{job.id}/logs", params={"after": 2}).json()["events"]

    assert [event["sequence"] for event in first] == [1, 2]
    assert rest[0]["sequence"] == 3
    assert rest[-1]["data"]["failure"]["code"] == "gated_model"


def test_a_stream_too_many_is_refused_before_it_begins(
    http: TestClient, application: FastAPI, job_store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished.queued(job_store)
    monkeypatch.setattr(application.state.services.feed, "_max_streams", 0)

    response = http.get(f"/v1/jobs/{job.id}/events")

    assert (response.status_code, response.json()["code"]) == (503, "too_many_streams")


async def collect(feed: EventFeed, job_id: str, after: int = 0) -> list[JobEvent]:
    """Return every event a reader gets."""
    return [event async for event in feed.follow(job_id, after=after)]


def test_readers_of_one_job_share_one_reader_of_the_database(
    job_store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished.succeeded(job_store)
    reads = []
    read = job_store.events
    monkeypatch.setattr(job_store, "events", lambda *a, **k: reads.append(k) or read(*a, **k))
    feed = EventFeed(job_store, poll_seconds=0.01, max_streams=100)

    async def crowd() -> list[list[JobEvent]]:
        return await asyncio.gather(*(collect(feed, job.id) for _ in range(50)))

    results = asyncio.run(crowd())

    assert all(events == results[0] for events in results)
    assert len(reads) == 1
    assert feed.streams == 0


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until a condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # a feed has no event for a reader who joins
            await asyncio.sleep(0)


def test_a_reader_who_starts_earlier_than_what_is_retained_misses_nothing(job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)
    lines = RETAINED_EVENTS + 2 * BATCH
    for number in range(lines):
        job_store.append_event(Lease(job.id, 1, finished.WORKER), "log", {"message": str(number)})
    feed = EventFeed(job_store, poll_seconds=0.01, max_streams=100)

    async def late_and_early() -> tuple[list[JobEvent], list[JobEvent]]:
        first = asyncio.create_task(collect(feed, job.id, after=lines))
        await until(lambda: feed.streams == 1)
        second = asyncio.create_task(collect(feed, job.id))
        await until(lambda: feed.streams == 2)
        await asyncio.to_thread(finished.finish, job_store, job)
        return await first, await second

    late, early = asyncio.run(late_and_early())

    assert [event.sequence for event in early] == list(range(1, early[-1].sequence + 1))
    assert late == early[lines:]
