"""What an operator does at night: see who holds what, take a job away, keep a worker from taking more, seal anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, delete, insert, select, update

from service.jobs import tables
from service.jobs.credentials import CredentialVault
from service.jobs.ports import JobAttempts
from service.jobs.schema import Lease
from service.jobs.transitions import HELD_STATES
from service.platform.clock import utc_now
from service.platform.database import reading, writing

EVERY_WORKER = "*"
_JOBS, _SET_APART = tables.jobs.c, tables.set_apart.c


@dataclass(frozen=True)
class HeldJob:
    """A job and the worker that holds it."""

    job_id: str
    owner: str
    state: str
    attempt: int
    worker: str
    until: datetime
    stage: str | None


class NightShift:
    """The operator's hands in the database; every write is one that some process does anyway."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def held(self) -> Sequence[HeldJob]:
        """Return the jobs that workers hold, the one whose lease ends first in front."""
        states = [str(state) for state in HELD_STATES]
        columns = (_JOBS.id, _JOBS.owner, _JOBS.state, _JOBS.attempt, _JOBS.lease_owner, _JOBS.lease_until, _JOBS.stage)
        query = select(*columns).where(_JOBS.state.in_(states)).order_by(_JOBS.lease_until)
        with reading(self._engine) as connection:
            return [HeldJob(*row) for row in connection.execute(query)]

    def requeue(self, job_id: str, store: JobAttempts) -> bool:
        """Take a job from the worker that holds it and queue it again; its attempt does not count.

        The worker notices when it writes next, and stops: nothing of the old attempt is published.
        """
        held = next((one for one in self.held() if one.job_id == job_id), None)
        return held is not None and store.requeue(Lease(held.job_id, held.attempt, held.worker))

    def set_apart(self, name: str, reason: str) -> None:
        """Keep a worker, all of a host, or every one (`*`) from taking jobs; what they hold they finish."""
        with writing(self._engine) as connection:
            connection.execute(delete(tables.set_apart).where(_SET_APART.name == name))
            connection.execute(insert(tables.set_apart).values(name=name, reason=reason, since=utc_now()))

    def bring_back(self, name: str) -> bool:
        """Let them take jobs again, and return whether they were kept from it."""
        with writing(self._engine) as connection:
            return connection.execute(delete(tables.set_apart).where(_SET_APART.name == name)).rowcount > 0

    def apart(self, *names: str) -> str | None:
        """Return why a worker of these names takes no jobs, or None."""
        query = select(_SET_APART.reason).where(_SET_APART.name.in_([*names, EVERY_WORKER])).limit(1)
        with reading(self._engine) as connection:
            reason = connection.execute(query).scalar_one_or_none()
        return None if reason is None else f"set apart by the operator: {reason}"

    def seal_anew(self, vault: CredentialVault) -> int:
        """Seal the tokens of waiting jobs with the newest key, and return how many."""
        sealed = tables.job_credentials.c
        with writing(self._engine) as connection:
            rows = connection.execute(select(sealed.job_id, sealed.ciphertext).with_for_update()).all()
            for job_id, ciphertext in rows:
                anew = update(tables.job_credentials).where(sealed.job_id == job_id)
                connection.execute(anew.values(ciphertext=vault.seal_anew(bytes(ciphertext))))
        return len(rows)
