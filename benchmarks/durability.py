"""What it costs that nothing is lost: the share of a job's time in leases, events and durable layers, and the way back.

The share is taken inside one run, as time in those calls over time in all, so that a busy machine changes little.
The way back is the time from `kill -9` of a whole worker to the moment another one has its job.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from examples import CALIBRATION_TEXT, DEMO_MODEL, EVALUATION_TEXT
from service.jobs.schema import Job, JobState, JobSubmission, Lease
from service.jobs.sql_store import SqlJobStore
from service.jobs.work import CompressWork, JobDestination, JobSource
from service.platform.clock import utc_now
from service.platform.database import migrate, open_database
from service.platform.ids import new_id
from srr_core.pipeline import compress
from srr_core.pipeline.work_folder import WorkFolder
from srr_core.recipe import named_recipe
from tests.chaos.customers import Customers
from tests.chaos.installation import HUB_USER, LEASE_SECONDS, Installation
from tests.chaos.models import seed_hub
from tests.chaos.plan import PlannedJob
from tests.chaos.processes import kill_together
from tests.chaos.records import look, read_job
from tests.chaos.scene import jobs_of
from tests.chaos.stores import wait_until
from tests.servers import postgres_server
from worker.lease_keeper import LeaseKeeper, Limits
from worker.progress import ProgressRecorder
from worker.workspace import Workspace

LEASE = timedelta(seconds=60)
LIMITS = Limits(lease=LEASE, heartbeat_seconds=12, time_limit_seconds=1e6, disk_budget_bytes=1 << 60, grace_seconds=20)
"""As by default."""


class Shares:
    """Seconds spent in named parts."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, name: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        """Count the time of this scope."""
        began = clock()
        try:
            yield
        finally:
            self.seconds[name] += clock() - began

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are counted."""

        def counted(*arguments: Any, **options: Any) -> Any:
            with self.timed(name):
                return call(*arguments, **options)

        return counted


def measure_share(directory: Path, url: str) -> tuple[float, dict[str, float]]:
    """Return the seconds of one run of the demo model, and those in each part."""
    engine = open_database(url.replace("postgresql://", "postgresql+psycopg://"))
    migrate(engine)
    store, shares = SqlJobStore(engine), Shares()
    lease = _held_job(store)
    recorder = ProgressRecorder(store, lease)
    keeper, is_over = LeaseKeeper(store, lease, Workspace(directory), LIMITS), threading.Event()

    def keep() -> None:
        while not is_over.wait(LIMITS.look_seconds):
            # Beside the run and not in its way, in another process even: only what it computes can slow a run down.
            with shares.timed("lease", time.thread_time):
                keeper.look()

    thread = threading.Thread(target=keep)
    thread.start()
    began = time.perf_counter()
    try:
        with patch.object(WorkFolder, "finish", shares.wrapped("durable layers", WorkFolder.finish)):
            compress(
                DEMO_MODEL,
                named_recipe("srr"),
                directory / "artifact",
                calibration_text=CALIBRATION_TEXT,
                evaluation_text=EVALUATION_TEXT,
                device="cpu",
                on_progress=shares.wrapped("events", recorder.on_progress),
            )
        return time.perf_counter() - began, dict(shares.seconds)
    finally:
        is_over.set()
        thread.join()
        engine.dispose()


def _held_job(store: SqlJobStore) -> Lease:
    now = utc_now()
    submission = JobSubmission(
        work=CompressWork(
            source=JobSource(model_id="demo/tiny-llama"),
            destination=JobDestination(repo_id="demo/out"),
            recipe=named_recipe("srr"),
        )
    )
    job = store.add(Job(id=new_id("job"), state=JobState.QUEUED, work=submission.work, created_at=now, updated_at=now))
    claim = store.claim(job.id, 1, worker="benchmark", lasts=LEASE)
    if claim is None:
        raise RuntimeError("a new job could not be claimed")
    return claim.lease


def measure_ways_back(directory: Path, *, count: int) -> list[float]:
    """Return the seconds from the death of a worker to the next attempt of its job, with an idle worker beside it."""
    installation = Installation(directory / "installation")
    try:
        installation.start()
        seed_hub(installation, directory / "models")
        plans = [PlannedJob(index, 0, None, is_sent_twice=False) for index in range(count)]
        customers = Customers(installation.urls, plans, owner=HUB_USER, token=installation.token)
        try:
            wait_until(lambda: customers.ask("GET", "/readyz") is not None, "the API was ready")
            return [_way_back(installation, customers, index) for index in range(count)]
        finally:
            customers.close()
    finally:
        installation.close()


def _way_back(installation: Installation, customers: Customers, index: int) -> float:
    customer = customers.all[index]
    customers.send(customer)

    def carried_by() -> list[str]:
        return [worker.name for worker in installation.workers if customer.job_id in jobs_of(worker)]

    wait_until(lambda: bool(carried_by()), "a worker had the job")
    worker = installation.service(carried_by()[0])
    killed_at = time.time()
    kill_together(worker.tree())

    def is_taken_up() -> bool:
        seen = (look(installation.postgres) or {}).get(str(customer.job_id))
        return seen is not None and seen.attempt > 1 and seen.state not in ("queued",)

    wait_until(is_taken_up, "the job was taken up again")
    found = time.time() - killed_at
    worker.start()
    wait_until(lambda: read_job(customers, str(customer.job_id)).state == "succeeded", "the job succeeded", seconds=180)
    return found


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--deaths", type=int, default=5)
    chosen = parser.parse_args()
    parts: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(chosen.runs):
        with tempfile.TemporaryDirectory() as name, postgres_server() as url:
            total, seconds = measure_share(Path(name), url)
        for part, value in {**seconds, "in all": sum(seconds.values())}.items():
            parts[part].append(100 * value / total)
        print(f"run of {total:.1f} s: " + ", ".join(f"{part} {value:.3f} s" for part, value in seconds.items()))
    for part, values in parts.items():
        print(f"{part}: {statistics.median(values):.2f} % of a run of the demo model (median of {len(values)})")
    with tempfile.TemporaryDirectory() as name:
        ways = measure_ways_back(Path(name), count=chosen.deaths)
    print(
        f"death of a worker to the next attempt: median {statistics.median(ways):.1f} s, largest {max(ways):.1f} s, "
        f"with a lease of {LEASE_SECONDS:g} s"
    )


if __name__ == "__main__":
    sys.exit(main())
