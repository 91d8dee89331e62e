"""Jobs through real Celery workers, brokers and the real core, and workers that end in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.jobs.opening import Jobs, open_jobs
from service.jobs.schema import TERMINAL_STATES, Job, JobState
from service.jobs.settings import JobsSettings
from service.jobs.work import JobDestination, JobSource, JobText
from service.jobs.workers import WorkerRegistry
from service.platform.clock import utc_now
from srr_core.recipe import named_recipe
from tests.pico import build_checkpoint
from tests.service.submitting import submission, submitted
from worker.folder_hub import FolderHub

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_EndToEnd12345678"


class Installation:
    """A data directory, its brokers, and workers started on them."""

    def __init__(self, data_dir: Path, broker_url: str | None) -> None:
        self.settings = JobsSettings(
            data_dir=data_dir,
            broker_url=SecretStr(broker_url) if broker_url else None,
            key_prefix=f"{data_dir.name}:",
            lease_seconds=10,
            heartbeat_seconds=0.5,
            maintenance_seconds=0.5,
            lost_message_seconds=5,
        )
        self._stack = ExitStack()
        self.jobs: Jobs = self._stack.enter_context(open_jobs(self.settings))
        self.hub = FolderHub(data_dir / "hub")
        self.log = data_dir / "worker.log"

    def close(self) -> None:
        """Kill what still runs."""
        self._stack.close()

    def start_worker(self, **more: str) -> subprocess.Popen[bytes]:
        """Start a worker as `srr worker` does."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SERVICE_DATA_DIR": str(self.settings.data_dir),
            "SERVICE_KEY_PREFIX": self.settings.key_prefix,
            "SERVICE_LEASE_SECONDS": "10",
            "SERVICE_HEARTBEAT_SECONDS": "0.5",
            "SERVICE_MAINTENANCE_SECONDS": "0.5",
            "SERVICE_LOST_MESSAGE_SECONDS": "5",
            "WORKER_DISK_RESERVE_BYTES": "0",
            "WORKER_SHUTDOWN_SECONDS": "0.5",
            "SERVICE_SOURCE_HUB": "folder",
        }
        environment |= more
        if self.settings.broker_url is not None:
            environment["SERVICE_BROKER_URL"] = self.settings.broker_url.get_secret_value()
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "worker.app"],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._stack.callback(_kill, worker)
        self._newest = worker
        return worker

    def submit(self, **fields: Any) -> Job:
        """Submit a job; a worker's maintenance sends it."""
        windows = JobText(num_sequences=8, sequence_length=64)
        defaults: dict[str, Any] = {
            "source": JobSource(model_id="acme/base"),
            "destination": JobDestination(repo_id="acme/base-srr"),
            "recipe": named_recipe("srr").model_copy(update={"rank": 4}),
            "calibration": windows,
            "evaluation": windows,
        }
        jobs = self.jobs
        return submitted(jobs.store, submission(**(defaults | fields)), vault=jobs.vault, hub_token=TOKEN)

    def wait_for(self, condition: Callable[[], bool], *, seconds: float = 300) -> None:
        """Wait until a condition holds, or fail with the worker's log."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self._newest.poll() is not None:
                pytest.fail(f"waited in vain; the worker said:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def finish(self, job: Job) -> Job:
        """Wait for the end of a job and return it."""
        self.wait_for(lambda: self.jobs.store.get(job.id).state in TERMINAL_STATES)
        return self.jobs.store.get(job.id)

    def wait_for_layers(self, job: Job, *, attempt: int = 1, count: int = 1) -> None:
        """Wait until the core has finished some layers."""

        def are_done() -> bool:
            events = self.jobs.store.events(job.id, kinds=("layer",))
            return sum(event.attempt == attempt for event in events) >= count

        self.wait_for(are_done)

    def scratch(self) -> list[str]:
        """Return the names of scratch directories."""
        return [path.name for path in (self.settings.data_dir / "scratch").iterdir()]


def _kill(worker: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    made: list[Installation] = []

    def make(broker_url: str | None = None) -> Installation:
        made.append(Installation(tmp_path / "data", broker_url))
        return made[-1]

    yield make
    for installation in made:
        installation.close()


def test_job_is_published_and_another_canceled_over_files(
    install: Callable[..., Installation], tmp_path: Path, tiny_llama: Path
) -> None:
    service = install()
    service.hub.import_model(build_checkpoint(tmp_path / "pico"), "acme/base")
    service.hub.import_model(tiny_llama, "acme/larger")
    service.start_worker()

    done = service.finish(service.submit())

    assert (done.state, done.failure) == (JobState.SUCCEEDED, None)
    head = service.hub.head("acme/base-srr")
    assert head is not None
    assert done.result is not None
    assert done.result.commit_sha == head.sha
    assert service.jobs.store.report(done.id)["source"]["sha"] == done.work.source.sha
    assert len(service.jobs.store.events(done.id, kinds=("layer",))) == len(
        service.jobs.store.report(done.id)["layers"]
    )

    (worker,) = WorkerRegistry(service.jobs.engine).list()
    assert worker.is_alive(now=utc_now())

    larger = service.submit(
        source=JobSource(model_id="acme/larger"), destination=JobDestination(repo_id="acme/larger-srr")
    )
    service.wait_for_layers(larger)
    assert [one.job_id for one in WorkerRegistry(service.jobs.engine).list()] == [larger.id]
    service.jobs.store.cancel(larger.id)

    assert service.finish(larger).state is JobState.CANCELED
    service.wait_for(lambda: service.scratch() == [])
    assert service.hub.head("acme/larger-srr") is None
    written = [path for path in service.settings.data_dir.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)


def test_job_of_a_killed_worker_is_taken_up_again_and_ends_once(
    install: Callable[..., Installation], tiny_llama: Path
) -> None:
    service = install()
    service.hub.import_model(tiny_llama, "acme/base")
    first = service.start_worker()
    job = service.submit()
    service.wait_for_layers(job, count=3)

    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    service.start_worker()
    done = service.finish(job)

    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)
    states = [event.data["state"] for event in service.jobs.store.events(job.id, kinds=("state",))]
    assert states == ["queued", "running", "queued", "running", "publishing", "succeeded"]
    service.wait_for(lambda: service.scratch() == [])


def test_a_worker_without_disk_fails_no_job_and_leaves_all_to_the_others(
    install: Callable[..., Installation], tmp_path: Path
) -> None:
    service = install()
    service.hub.import_model(build_checkpoint(tmp_path / "pico"), "acme/base")
    jobs = [service.submit(destination=JobDestination(repo_id=f"acme/out-{number}")) for number in range(3)]
    service.start_worker(WORKER_DISK_RESERVE_BYTES=str(1 << 60))
    registry = WorkerRegistry(service.jobs.engine)
    service.wait_for(lambda: any(one.trouble is not None for one in registry.list()))
    service.wait_for(
        lambda: service.log.read_text().count("worker_unfit") == 2
    )  # the worker, and with a message in hand

    service.start_worker()

    assert [(job.state, job.attempt) for job in map(service.finish, jobs)] == [(JobState.SUCCEEDED, 1)] * 3


def test_stopped_worker_gives_its_job_back_over_redis(
    install: Callable[..., Installation], tiny_llama: Path, redis_url: str
) -> None:
    service = install(redis_url)
    service.hub.import_model(tiny_llama, "acme/base")
    first = service.start_worker()
    job = service.submit(max_attempts=1)
    service.wait_for_layers(job)

    first.terminate()
    first.wait(60)
    left = service.jobs.store.get(job.id)
    assert (left.state, left.attempt, left.failure) == (JobState.QUEUED, 2, None), service.log.read_text()[-4000:]

    service.start_worker()
    assert service.finish(job).state is JobState.SUCCEEDED
    layers = service.jobs.store.events(job.id, kinds=("layer",))
    names = [event.data["layer"] for event in layers]
    assert len(names) == len(set(names))  # the second attempt went on where the first had stopped
