"""The workers over REST."""

from datetime import timedelta

from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.jobs.sql_store import SqlJobStore
from service.jobs.workers import Worker, WorkerRegistry
from service.platform.clock import utc_now
from tests.service import finished


def test_workers_are_told_apart_by_whether_they_live_and_work(
    http: TestClient, engine: Engine, workers: WorkerRegistry
) -> None:
    now = utc_now()
    busy = Worker(name=finished.WORKER, host="gpu1", device="cuda", version="0.1.0", started_at=now, seen_at=now)
    workers.beat(busy)
    workers.beat(busy.model_copy(update={"name": "silent", "seen_at": now - timedelta(minutes=5)}))
    store = SqlJobStore(engine)
    finished.running(store)
    finished.queued(store)
    finished.queued(store, owner="somebody else")

    answer = http.get("/v1/workers").json()

    assert answer["queue_depth"] == 2
    assert [(one["name"], one["is_alive"], one["is_busy"]) for one in answer["workers"]] == [
        (finished.WORKER, True, True),
        ("silent", False, False),
    ]
    assert (answer["workers"][0]["host"], answer["workers"][0]["device"]) == ("gpu1", "cuda")
    assert "job_" not in http.get("/v1/workers").text
