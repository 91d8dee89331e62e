"""A quota holds whoever asks at the same time, and how many times."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest

from service.jobs.schema import Job, JobFilter, JobState
from service.keys.schema import Quota
from service.platform.clock import utc_now
from tests.attacks.conftest import Installation

LEASE = timedelta(minutes=1)
AT_ONCE = 30
MALLORYS = JobFilter(owner="mallory")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both databases: each keeps one transaction from another in a way of its own."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite3'}"


def submitted_at_once(installation: Installation, quota: Quota, *, of: int) -> Sequence[int]:
    """Return the statuses of submissions that begin together, each with a destination of its own."""
    installation.tenancy.lend("mallory", "acme")
    header, ready = installation.bearer("mallory", quota=quota), Barrier(of)

    def submit(number: int) -> int:
        ready.wait()
        return int(installation.submit(header, "org/model", f"acme/out{number}").status_code)

    with ThreadPoolExecutor(of) as pool:
        return list(pool.map(submit, range(of)))


def test_no_more_jobs_wait_than_may(installation: Installation) -> None:
    statuses = submitted_at_once(installation, Quota(max_queued=5), of=AT_ONCE)

    assert Counter(statuses) == {202: 5, 429: AT_ONCE - 5}
    assert installation.store.usage("mallory", since=utc_now()).queued == 5


def test_no_more_jobs_are_at_work_than_may_and_the_others_wait(installation: Installation) -> None:
    statuses = submitted_at_once(installation, Quota(max_queued=None, max_running=2), of=8)
    jobs = _jobs(installation)
    ready = Barrier(len(jobs))

    def claim(job: Job) -> bool:
        ready.wait()
        return installation.store.claim(job.id, job.attempt, worker=f"w {job.id}", lasts=LEASE) is not None

    with ThreadPoolExecutor(len(jobs)) as pool:
        claimed = list(pool.map(claim, jobs))

    assert Counter(statuses) == {202: 8}
    assert Counter(claimed) == {True: 2, False: 6}
    assert Counter(job.state for job in _jobs(installation)) == {JobState.RUNNING: 2, JobState.QUEUED: 6}


def test_a_job_that_waited_for_room_is_offered_again_and_runs(installation: Installation) -> None:
    submitted_at_once(installation, Quota(max_queued=None, max_running=1), of=2)
    first, second = _jobs(installation)
    held = installation.store.claim(first.id, first.attempt, worker="w1", lasts=LEASE)
    assert held is not None
    assert installation.store.claim(second.id, second.attempt, worker="w2", lasts=LEASE) is None

    installation.store.requeue(held.lease)
    again = installation.store.claim(second.id, second.attempt, worker="w2", lasts=LEASE)

    assert again is not None
    assert second.id not in [message.job_id for message in installation.store.unsent()]


def test_keys_of_other_owners_wait_for_nobody(installation: Installation) -> None:
    submitted_at_once(installation, Quota(max_queued=None, max_running=1), of=2)
    installation.tenancy.lend("ann", "acme")
    answer = installation.submit(installation.bearer("ann", quota=Quota(max_running=1)), "org/model", "acme/hers")
    (mine, _) = _jobs(installation)

    for job_id in (mine.id, answer.json()["id"]):
        assert installation.store.claim(job_id, 1, worker="w", lasts=LEASE) is not None


def _jobs(installation: Installation) -> list[Job]:
    return sorted(installation.store.list(MALLORYS, limit=50).jobs, key=lambda job: job.id)
