"""What happens to a job and what belongs to it, in one transaction of the database or not at all."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, func, select

from service.jobs import tables
from service.jobs.errors import JobNotRetryableError
from service.jobs.schema import Job, JobState, Lease, SealedSecret
from service.jobs.sql_changes import ChangeWriter
from service.jobs.sql_store import SqlJobStore
from service.platform.clock import utc_now
from service.platform.database import migrate, open_database, reading
from srr_core.recipe.stages import Stage
from tests.service.jobs.lifecycle import FATAL, LEASE, RESULT, MakeJob, held


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def job(engine: Engine, make_job: MakeJob) -> Job:
    """A queued job with a Hub token."""
    sealed = SealedSecret(ciphertext=b"sealed", expires_at=utc_now() + timedelta(hours=1))
    return SqlJobStore(engine).add(make_job(max_attempts=1), credential=sealed)


def tokens(engine: Engine) -> int:
    """Return how many sealed tokens are stored."""
    with reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(tables.job_credentials)).scalar_one()


def succeed(store: SqlJobStore, job: Job) -> None:
    lease = held(store, job)
    store.publishing(lease)
    store.succeed(lease, result=RESULT, report={})


def cancel_while_running(store: SqlJobStore, job: Job) -> None:
    lease = held(store, job)
    store.cancel(job.id)
    store.canceled(lease)


def lose_while_canceling(store: SqlJobStore, job: Job) -> None:
    held(store, job)
    store.cancel(job.id)
    store.reap(now=utc_now() + 2 * LEASE)


ENDS: dict[str, Callable[[SqlJobStore, Job], object]] = {
    "succeeded": succeed,
    "failed": lambda store, job: store.fail(held(store, job), FATAL),
    "canceled while queued": lambda store, job: store.cancel(job.id),
    "canceled while running": cancel_while_running,
    "lost while canceling": lose_while_canceling,
}


@pytest.mark.parametrize("end", ENDS)
def test_the_token_of_a_job_is_deleted_when_it_ends(engine: Engine, job: Job, end: str) -> None:
    assert tokens(engine) == 1

    ENDS[end](SqlJobStore(engine), job)

    assert SqlJobStore(engine).get(job.id).finished_at is not None
    assert tokens(engine) == 0


def test_the_token_stays_while_another_attempt_will_need_it(engine: Engine, job: Job) -> None:
    store = SqlJobStore(engine)

    store.requeue(held(store, job))

    assert tokens(engine) == 1


@pytest.mark.parametrize("step", ["announce", "update"])
def test_an_end_that_cannot_be_written_deletes_no_token(
    engine: Engine, job: Job, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = SqlJobStore(engine)
    lease = held(store, job)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("lost the connection")

    with monkeypatch.context() as patch:
        patch.setattr(ChangeWriter, step, fail)
        with pytest.raises(RuntimeError):
            store.fail(lease, FATAL)

    assert (store.get(job.id).state, tokens(engine)) == (JobState.RUNNING, 1)


def test_others_are_to_be_notified_of_checkpoints_and_of_nothing_else_a_worker_tells(engine: Engine, job: Job) -> None:
    store = SqlJobStore(engine)
    lease = held(store, job)

    def notices() -> list[str]:
        with reading(engine) as connection:
            return list(
                connection.execute(select(tables.job_notices.c.state).order_by(tables.job_notices.c.id)).scalars()
            )

    before = notices()
    store.append_event(lease, "layer", {"name": "q_proj"})
    assert notices() == before
    store.append_event(lease, "checkpoint", {"step": 1})
    assert notices() == [*before, "checkpoint"]


def test_a_retry_that_another_job_for_the_work_overtakes_changes_nothing(
    engine: Engine, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqlJobStore(engine)
    canceled = store.add(make_job(content_key="a" * 64))
    store.cancel(canceled.id)
    store.add(make_job(content_key="a" * 64))
    monkeypatch.setattr("service.jobs.sql_store.find_same_work", lambda *_: None)  # it was not there a moment ago

    with pytest.raises(JobNotRetryableError, match="same work already"):
        store.retry(canceled.id)

    assert store.get(canceled.id).state is JobState.CANCELED


class RenewedMeanwhile(SqlJobStore):
    """A store whose reaper finds a lost job that its worker renews before it is locked."""

    lease: Lease

    def _reap_one(self, job_id: str, now: datetime) -> Job | None:
        self.renew(self.lease, lasts=timedelta(days=1))
        return super()._reap_one(job_id, now)


def test_a_lease_that_is_renewed_while_the_reaper_looks_stays(engine: Engine, job: Job) -> None:
    store = RenewedMeanwhile(engine)
    store.lease = held(store, job)

    reaped = store.reap(now=utc_now() + 2 * LEASE)

    assert reaped == []
    assert store.get(job.id).state is JobState.RUNNING


@pytest.mark.parametrize(
    "report",
    [
        lambda store, lease: store.append_event(lease, "layer", {"layer": "q_proj"}),
        lambda store, lease: store.progress(lease, stage=Stage.COMPRESS, progress=0.5),
    ],
    ids=["layer", "progress"],
)
def test_a_report_of_a_run_costs_its_number_and_its_row_and_nothing_else(
    engine: Engine, job: Job, report: Callable[[SqlJobStore, Lease], object]
) -> None:
    store = SqlJobStore(engine)
    lease = held(store, job)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2].split()[0]))

    told = report(store, lease)

    assert told
    assert [word for word in statements if word != "BEGIN"] == ["UPDATE", "INSERT"]
