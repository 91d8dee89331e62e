"""The operator at night: what is held, taken away, kept back and sealed anew, over both databases."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine

from service.jobs.credentials import CredentialVault
from service.jobs.errors import CredentialError
from service.jobs.night import EVERY_WORKER, NightShift
from service.jobs.schema import JobState, Lease
from service.jobs.sql_store import SqlJobStore
from service.notifications.endpoints import create_endpoint, open_secrets
from service.notifications.schema import EndpointRules
from service.notifications.store import NotificationStore
from service.platform.clock import utc_now
from service.platform.database import migrate, open_database
from tests.service.submitting import submitted

LEASE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    yield engine
    engine.dispose()


def test_a_job_that_is_taken_away_waits_again_and_its_worker_writes_nothing(engine: Engine) -> None:
    store, shift = SqlJobStore(engine), NightShift(engine)
    job = submitted(store)
    claim = store.claim(job.id, 1, worker="w", lasts=LEASE)
    assert claim is not None

    held = shift.held()
    taken, again = shift.requeue(job.id, store), shift.requeue(job.id, store)

    assert [(one.job_id, one.worker, one.state) for one in held] == [(job.id, "w", "running")]
    assert (taken, again) == (True, False)
    assert store.get(job.id).state is JobState.QUEUED
    assert not store.publishing(Lease(job.id, 1, "w"))
    assert shift.held() == []


def test_a_worker_is_set_apart_by_its_name_its_host_or_with_all_others(engine: Engine) -> None:
    shift = NightShift(engine)
    names = ("worker_1@host", "host")

    for name in (*names, EVERY_WORKER):
        shift.set_apart(name, "smells of smoke")
        assert shift.apart(*names) == "set apart by the operator: smells of smoke"
        assert shift.bring_back(name)
        assert shift.apart(*names) is None
    shift.set_apart("another", "r")
    assert shift.apart(*names) is None
    assert not shift.bring_back("host")


def test_secrets_that_were_sealed_anew_need_the_old_key_no_more(engine: Engine) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    before, both, after = (CredentialVault(keys, lifetime=DAY) for keys in ([old], [new, old], [new]))
    store, notifications, shift = SqlJobStore(engine), NotificationStore(engine), NightShift(engine)
    job = submitted(store, vault=before, hub_token="hf_secret")
    rules = EndpointRules(url="https://example.org/hook")
    made = create_endpoint(rules, owner="me", store=notifications, vault=before, resolve=lambda *_: ["93.184.215.14"])
    claim = store.claim(job.id, 1, worker="w", lasts=LEASE)
    assert claim is not None

    counts = shift.seal_anew(both), notifications.seal_anew(both.seal_anew)

    sealed = store.credential(claim.lease)
    assert sealed is not None
    assert counts == (1, 1)
    assert after.open(sealed) == "hf_secret"
    assert open_secrets(notifications.secrets(made.endpoint.id), after, now=utc_now()) == [made.secret]
    with pytest.raises(CredentialError):
        shift.seal_anew(before)
