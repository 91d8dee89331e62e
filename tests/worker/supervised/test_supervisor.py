"""One job in its own process group: every way it can end, with real processes and a real database."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from service.jobs.errors import JobFinishedError
from service.jobs.schema import TERMINAL_STATES, JobFailure, JobState
from service.jobs.work import JobText
from service.platform.clock import utc_now
from tests.worker.supervised.conftest import ROOT, Bench
from worker.health import Health

S = JobState
TOKEN = "hf_UserToken12345678"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def failure(bench: Bench, job_id: str) -> JobFailure:
    found = bench.store.get(job_id).failure
    assert found is not None
    return found


def test_job_is_published_and_its_scratch_removed(bench: Bench) -> None:
    job = bench.submit()

    bench.supervisor("succeed").run(job.id, 1)

    done = bench.store.get(job.id)
    head = bench.hub.head("acme/base-srr")
    assert (done.state, done.progress) == (S.SUCCEEDED, 1.0)
    assert head is not None
    assert done.result is not None
    assert (done.result.commit_sha, done.work.source.sha) == (head.sha, bench.hub.resolve("acme/base").sha)
    assert bench.store.report(job.id)["source"]["id"] == "acme/base"
    assert bench.states(job) == [S.QUEUED, S.RUNNING, S.PUBLISHING, S.SUCCEEDED]
    assert list(bench.scratch.iterdir()) == []


def test_second_delivery_starts_nothing(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("succeed")
    supervisor.run(job.id, 1)
    events = bench.store.events(job.id)

    supervisor.run(job.id, 1)
    bench.supervisor("succeed", worker="w2").run(job.id, 1)

    assert bench.store.events(job.id) == events


def test_own_text_reaches_the_core_exactly(bench: Bench) -> None:
    job = bench.submit(calibration=JobText(text="line one\r\nline two\n"))
    thread = bench.run_aside(bench.supervisor("wait"), job)

    seen = (bench.scratch / job.id / "calibration.txt").read_bytes()
    bench.store.cancel(job.id)
    thread.join(30)

    assert seen == b"line one\r\nline two\n"


def test_cancel_stops_the_run_and_frees_the_disk(bench: Bench) -> None:
    job = bench.submit()
    thread = bench.run_aside(bench.supervisor("wait"), job)

    bench.store.cancel(job.id)
    thread.join(30)

    assert bench.states(job) == [S.QUEUED, S.RUNNING, S.CANCELING, S.CANCELED]
    assert list(bench.scratch.iterdir()) == []
    assert bench.hub.head("acme/base-srr") is None


def test_lease_is_kept_while_a_long_layer_is_finished(bench: Bench) -> None:
    job = bench.submit()
    lease = timedelta(seconds=60)
    thread = bench.run_aside(bench.supervisor("linger", lease=lease, grace_seconds=60), job)
    bench.store.cancel(job.id)
    layer = bench.scratch / job.id / "artifact.partial"
    bench.wait_for((layer / "finishing").exists)

    for _ in range(3):
        bench.clock.advance(lease / 2)
        bench.wait_for(lambda: bench.lease_until(job) == bench.clock() + lease)
        assert list(bench.store.reap()) == []

    (layer / "finish").touch()
    thread.join(30)
    assert bench.store.get(job.id).state is S.CANCELED


def test_deaf_process_is_killed_with_its_children(bench: Bench) -> None:
    job = bench.submit()
    thread = bench.run_aside(bench.supervisor("ignore", grace_seconds=0.3), job)
    pid_file = bench.scratch / job.id / "grandchild.pid"
    bench.wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    grandchild = int(pid_file.read_text())

    bench.store.cancel(job.id)
    thread.join(30)

    assert bench.store.get(job.id).state is S.CANCELED
    bench.wait_for(lambda: not is_alive(grandchild))


def test_killed_process_is_tried_again_and_finds_its_scratch(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("crash_once")

    supervisor.run(job.id, 1)
    again = bench.store.get(job.id)
    assert (again.state, again.attempt) == (S.QUEUED, 2)
    assert failure(bench, job.id).code == "worker_crashed"
    assert "memory" in failure(bench, job.id).message
    supervisor.run(job.id, 2)

    assert bench.store.get(job.id).state is S.SUCCEEDED


@pytest.mark.parametrize(
    ("behaviour", "code", "attempts"),
    [
        ("unavailable", "hub_unavailable", 2),
        ("unsupported", "unsupported_model", 1),
        ("bug", "internal_error", 1),
    ],
)
def test_failure_has_a_code_and_is_repeated_only_if_that_may_help(
    bench: Bench, behaviour: str, code: str, attempts: int
) -> None:
    job = bench.submit(max_attempts=2)
    supervisor = bench.supervisor(behaviour)

    supervisor.run(job.id, 1)
    supervisor.run(job.id, 2)

    ended = bench.store.get(job.id)
    assert (ended.state, ended.attempt, failure(bench, job.id).code) == (S.FAILED, attempts, code)
    assert "Traceback" not in failure(bench, job.id).message
    assert list(bench.scratch.iterdir()) == []


def test_a_worker_that_is_not_fit_claims_nothing_until_it_is(bench: Bench) -> None:
    job = bench.submit()
    looked: list[S] = []

    def check() -> str | None:
        looked.append(bench.store.get(job.id).state)
        return "The disk is full." if len(looked) < 3 else None

    supervisor = bench.supervisor("succeed", health=Health((check,), sleep=lambda seconds: None))

    supervisor.run(job.id, 1)

    assert looked == [S.QUEUED, S.QUEUED, S.QUEUED]
    assert bench.store.get(job.id).state is S.SUCCEEDED


def test_a_full_disk_costs_the_job_no_attempt(bench: Bench) -> None:
    job = bench.submit(max_attempts=1)

    bench.supervisor("full").run(job.id, 1)

    waiting = bench.store.get(job.id)
    assert (waiting.state, waiting.attempt) == (S.QUEUED, 2)
    assert failure(bench, job.id).code == "storage_exhausted"
    bench.supervisor("succeed").run(job.id, 2)
    assert bench.store.get(job.id).state is S.SUCCEEDED


def test_a_job_that_takes_all_memory_is_stopped_and_not_tried_again(bench: Bench) -> None:
    job = bench.submit()

    bench.supervisor("swell", memory_budget_bytes=400_000_000).run(job.id, 1)

    ended = bench.store.get(job.id)
    assert (ended.state, ended.attempt, failure(bench, job.id).code) == (S.FAILED, 1, "memory_budget")


def test_secret_in_an_unexpected_failure_is_not_repeated(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    job = bench.submit()

    bench.supervisor("bug").run(job.id, 1)

    assert "hf_StandIn" not in bench.store.get(job.id).model_dump_json()
    logged = capfd.readouterr().err
    assert "job_failed" in logged
    assert "hf_StandIn" not in logged


def test_job_over_its_time_is_stopped(bench: Bench) -> None:
    job = bench.submit()

    bench.supervisor("wait", time_limit_seconds=0.5).run(job.id, 1)

    assert (bench.store.get(job.id).state, failure(bench, job.id).code) == (S.FAILED, "time_limit")


def test_job_over_its_disk_budget_is_stopped(bench: Bench) -> None:
    job = bench.submit()

    bench.supervisor("fill", disk_budget_bytes=100_000).run(job.id, 1)

    assert (bench.store.get(job.id).state, failure(bench, job.id).code) == (S.FAILED, "disk_budget")
    assert list(bench.scratch.iterdir()) == []


def test_worker_that_lost_its_lease_stops_and_leaves_the_job_alone(bench: Bench) -> None:
    job = bench.submit()
    thread = bench.run_aside(bench.supervisor("wait"), job)
    bench.store.reap(now=utc_now() + timedelta(hours=1))
    before = bench.store.get(job.id)

    thread.join(30)

    assert not thread.is_alive()
    assert bench.store.get(job.id) == before
    assert (before.state, before.attempt) == (S.QUEUED, 2)


def test_next_attempt_waits_for_the_one_that_is_still_stopping(bench: Bench) -> None:
    job = bench.submit()
    first = bench.run_aside(bench.supervisor("ignore", grace_seconds=1.0, look_seconds=1.0), job)
    bench.store.reap(now=utc_now() + timedelta(hours=1))

    bench.supervisor("succeed", worker="w2").run(job.id, 2)

    waiting = bench.store.get(job.id)
    assert (waiting.state, failure(bench, job.id).code) == (S.QUEUED, "workspace_busy")
    first.join(30)
    bench.supervisor("succeed", worker="w2").run(job.id, 3)
    assert bench.store.get(job.id).state is S.SUCCEEDED


def test_token_reaches_the_process_by_its_pipe_only(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    job = bench.submit(hub_token=TOKEN)

    bench.supervisor("leak").run(job.id, 1)

    seen = (bench.scratch / "seen").read_bytes()
    assert b"SRR_STAND_IN" in seen
    assert TOKEN.encode() not in seen
    assert TOKEN not in "".join(capfd.readouterr())
    assert not any(TOKEN.encode() in path.read_bytes() for path in bench.data_dir.rglob("*") if path.is_file())
    assert bench.store.get(job.id).state is S.SUCCEEDED


def test_a_job_of_an_account_does_not_run_with_the_token_of_the_worker_when_its_own_has_ended(bench: Bench) -> None:
    job = bench.submit(owner="hf:5f3c", hub_token=TOKEN, hub_token_expires_at=utc_now() - timedelta(seconds=1))

    bench.supervisor("succeed").run(job.id, 1)

    assert bench.store.get(job.id).state is S.FAILED
    assert failure(bench, job.id).code == "credential_unreadable"
    assert "sign in again" in failure(bench, job.id).message


def test_interrupted_worker_gives_the_job_back(bench: Bench) -> None:
    job = bench.submit(max_attempts=1)
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from tests.worker.supervised.conftest import interruptible\n"
        f"interruptible(Path({str(bench.data_dir)!r}), {job.id!r})\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    bench.wait_for(lambda: any((bench.scratch / job.id / "artifact.partial").glob("attempt-1")))

    worker.send_signal(signal.SIGTERM)
    worker.wait(30)

    back = bench.store.get(job.id)
    assert (back.state, back.attempt, back.failure) == (S.QUEUED, 2, None)
    bench.supervisor("succeed").run(job.id, 2)
    assert bench.store.get(job.id).state is S.SUCCEEDED


def test_process_dies_with_a_killed_worker(bench: Bench) -> None:
    job = bench.submit()
    script = (
        "from pathlib import Path\n"
        "from tests.worker.supervised.conftest import interruptible\n"
        f"interruptible(Path({str(bench.data_dir)!r}), {job.id!r}, behaviour='ignore')\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    pid_file = bench.scratch / job.id / "grandchild.pid"
    bench.wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")

    worker.kill()
    worker.wait(30)

    bench.wait_for(lambda: not is_alive(int(pid_file.read_text())))
    bench.wait_for(lambda: bench.is_released(job))
    assert bench.store.get(job.id).state is S.RUNNING
    bench.store.reap(now=utc_now() + timedelta(hours=1))
    bench.supervisor("succeed", worker="w2").run(job.id, 2)
    assert bench.store.get(job.id).state is S.SUCCEEDED
    assert bench.states(job).count(S.SUCCEEDED) == 1


def test_cancel_while_publishing_ends_once(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("succeed")
    thread = threading.Thread(target=supervisor.run, args=(job.id, 1), daemon=True)
    thread.start()
    bench.wait_for(lambda: S.PUBLISHING in bench.states(job))
    with suppress(JobFinishedError):  # it may have ended in between
        bench.store.cancel(job.id)
    thread.join(30)

    ended = bench.store.get(job.id)
    published = bench.hub.head("acme/base-srr") is not None
    assert ended.state in (S.SUCCEEDED, S.CANCELED)
    assert ended.state is not S.SUCCEEDED or published
    assert not thread.is_alive()
    assert len([state for state in bench.states(job) if state in TERMINAL_STATES]) == 1
