"""One Idempotency-Key sent many times at once makes one job, and never somebody else's."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from service.jobs.schema import JobFilter
from service.keys.schema import Quota
from tests.attacks.conftest import Installation
from tests.attacks.kinds import KINDS, body

AT_ONCE = 30


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both databases: each keeps one transaction from another in a way of its own."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite3'}"


def at_once(ask: Callable[[int], Any]) -> Sequence[Any]:
    """Return the answers of requests that begin together."""
    ready = Barrier(AT_ONCE)

    def wait_and_ask(number: int) -> Any:
        ready.wait()
        return ask(number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(wait_and_ask, range(AT_ONCE)))


def submit(installation: Installation, header: dict[str, str], kind: str = "compress", name: str = "out") -> Any:
    """Ask for a job under one key; forced, so that nothing but the key keeps two apart from one."""
    wanted = body(kind, "org/model", f"acme/{name}", force=True)
    return installation.http.post("/v1/jobs", json=wanted, headers=header | {"Idempotency-Key": "once"})


@pytest.mark.parametrize("kind", KINDS)
def test_one_key_makes_one_job(installation: Installation, kind: str) -> None:
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann", quota=Quota(max_queued=1))

    answers = at_once(lambda _: submit(installation, header, kind))

    # Whoever came while the first was stored is told so; nobody is charged for a second job.
    assert {answer.status_code for answer in answers} <= {202, 409, 429}
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert len(set(accepted)) == 1
    assert len(installation.store.list(JobFilter(owner="ann"), limit=50).jobs) == 1
    assert submit(installation, header, kind).json()["id"] == accepted[0]


def test_one_key_for_different_jobs_makes_one_of_them(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")

    answers = at_once(lambda number: submit(installation, header, name=f"out{number % 3}"))

    (job,) = installation.store.list(JobFilter(owner="ann"), limit=50).jobs
    accepted = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert accepted == {job.id}
    assert {answer.json()["code"] for answer in answers if answer.status_code != 202} <= {"idempotency_conflict"}


def test_the_same_key_of_others_is_another_key(installation: Installation) -> None:
    owners = [f"owner{number % 3}" for number in range(AT_ONCE)]
    headers = {owner: installation.bearer(owner) for owner in dict.fromkeys(owners)}
    for owner in headers:
        installation.tenancy.lend(owner, "acme")

    answers = at_once(lambda number: submit(installation, headers[owners[number]]))

    assert {answer.status_code for answer in answers} == {202}
    jobs = {(owner, answer.json()["id"]) for owner, answer in zip(owners, answers, strict=True)}
    assert Counter(owner for owner, _ in jobs) == dict.fromkeys(headers, 1)
