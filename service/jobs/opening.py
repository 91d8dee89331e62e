"""Everything the job domain consists of, built from its settings for a composition root."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from service.jobs.credentials import CredentialVault, credential_keys
from service.jobs.maintenance import Duty, Maintenance, flush_duty, job_duties
from service.jobs.policy import RetryPolicy
from service.jobs.queue import CeleryJobQueue, create_celery
from service.jobs.settings import JobsSettings
from service.jobs.sql_store import SqlJobStore
from service.jobs.tenancy import Tenancy
from service.platform.database import migrate, open_database


@dataclass(frozen=True)
class Jobs:
    """The open job domain of one process."""

    settings: JobsSettings
    engine: Engine
    store: SqlJobStore
    queue: CeleryJobQueue
    vault: CredentialVault
    tenancy: Tenancy

    def maintenance(self, *also: Duty) -> Maintenance:
        """Return the periodic duties, not started: `also`, then those of the jobs, which send last."""
        duties: Sequence[Duty] = (*also, *job_duties(self.store, self.queue, self.settings))
        urgent = (flush_duty(self.store, self.queue),)
        return Maintenance(duties, interval_seconds=self.settings.maintenance_seconds, urgent=urgent)


@contextmanager
def open_jobs(settings: JobsSettings) -> Iterator[Jobs]:
    """Open the database, bring its tables up to date, and connect the queue; close both at the end.

    Raises:
        StoreUnavailableError: the database does not answer.
        CredentialError: a configured key is malformed.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    keys = credential_keys([key.get_secret_value() for key in settings.credential_keys], settings.data_dir)
    vault = CredentialVault(keys, lifetime=timedelta(hours=settings.credential_hours))
    engine = open_database(settings.resolved_database_url)
    app = create_celery(settings)
    try:
        migrate(engine)
        store = SqlJobStore(engine, retries=RetryPolicy(first=settings.retry_first))
        yield Jobs(settings, engine, store, CeleryJobQueue(app, settings.queue_name), vault, Tenancy(engine))
    finally:
        app.close()
        engine.dispose()
