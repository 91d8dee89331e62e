"""The page that tells who computes and what waits."""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.jobs.memory_store import MemoryJobStore
from service.jobs.sql_store import SqlJobStore
from service.jobs.workers import Worker, WorkerRegistry
from service.web.workers import worker_row
from tests.service import finished


def heard_of(engine: Engine, name: str, *, ago: timedelta = timedelta()) -> Worker:
    """Record a worker that was last heard of some time ago."""
    now = datetime.now(UTC)
    worker = Worker(name=name, host="rack-1", device="cuda", version="0.1.0", started_at=now - ago, seen_at=now - ago)
    WorkerRegistry(engine).beat(worker)
    return worker


def test_workers_are_listed_with_what_they_are_and_whether_they_live(http: TestClient, engine: Engine) -> None:
    heard_of(engine, "worker-silent", ago=timedelta(minutes=5))
    heard_of(engine, "worker-alive")

    page = http.get("/workers").text

    assert "1 alive" in page
    assert page.index("worker-alive") < page.index("worker-silent")
    assert "on rack-1" in page
    assert "cuda" in page
    assert '<span class="badge failed">silent</span>' in page


def test_own_jobs_at_work_and_waiting_are_linked(http: TestClient, job_store: MemoryJobStore) -> None:
    running, waiting = finished.running(job_store), finished.queued(job_store)
    other = finished.queued(job_store, owner="somebody")

    page = http.get("/workers").text

    assert f"/jobs/{running.id}" in page
    assert f"/jobs/{waiting.id}" in page
    assert other.id not in page


@pytest.mark.parametrize(("owner", "is_told"), [("local", True), ("somebody", False)])
def test_a_worker_tells_whose_job_it_holds_only_to_its_owner(engine: Engine, owner: str, is_told: bool) -> None:
    store = SqlJobStore(engine)
    job = finished.running(store, owner=owner)
    now = datetime.now(UTC)
    heard_of(engine, finished.WORKER)
    (worker,) = WorkerRegistry(engine).list()

    row = worker_row(worker, store, owner="local", now=now)

    assert worker.job_id == job.id
    assert (row.job is not None) is is_told


def test_the_numbers_of_the_queue_have_words(http: TestClient, engine: Engine) -> None:
    finished.queued(SqlJobStore(engine))

    page = http.get("/workers").text

    assert "No worker is alive and 1 job waits" in page
    assert "srr_queue" not in page


def test_the_old_address_leads_to_the_page(http: TestClient) -> None:
    assert http.get("/queue", follow_redirects=False).headers["location"] == "/workers"
