"""Which workers there are: each says so at every round of its duties."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, delete, func, insert, select, update

from service.jobs import tables
from service.jobs.schema import JobState
from service.platform.database import reading, writing
from service.platform.stored import read_stored

SILENT_AFTER = timedelta(seconds=60)
"""A worker that has been silent for this long counts as gone."""
MAX_TROUBLE = 400
"""Characters."""
_FORGET_AFTER = timedelta(hours=1)
_WORKERS, _JOBS = tables.workers.c, tables.jobs.c


class Worker(BaseModel):
    """One worker process, and the job it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    host: str
    device: str
    """The name of the GPU, or cpu; until that has been looked up, what the operator chose."""
    device_memory_bytes: int | None = None
    """Memory of the GPU; None without one, or before it was looked up."""
    host_memory_bytes: int | None = None
    scratch_bytes: int | None = None
    """Disk for one job, as it was free when the worker started."""
    operations_per_second: float | None = None
    """Rate of one large square product in float32, measured at the start."""
    has_hub_token: bool = False
    """Whether jobs that bring no Hub token run with one of this worker."""
    version: str
    started_at: datetime
    seen_at: datetime
    trouble: str | None = None
    """What keeps it from taking jobs now."""
    job_id: str | None = None

    @property
    def has_gpu(self) -> bool:
        """Whether layers are computed on a GPU."""
        return self.device_memory_bytes is not None

    @property
    def memory_bytes(self) -> int | None:
        """The memory layers are computed in, the GPU's or the machine's; None where it is not known."""
        return self.device_memory_bytes if self.has_gpu else self.host_memory_bytes

    def is_alive(self, *, now: datetime) -> bool:
        """Whether it was heard of lately."""
        return now - self.seen_at < SILENT_AFTER


class WorkerRegistry:
    """The workers of an installation, in the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def beat(self, worker: Worker) -> None:
        """Record that a worker is alive, and forget those that have been gone for a day.

        Its trouble is left as it is: a worker reports it with `complain`.
        """
        values = worker.model_dump(exclude={"job_id", "trouble"})
        with writing(self._engine) as connection:
            seen = update(tables.workers).where(_WORKERS.name == worker.name).values(values)
            if connection.execute(seen).rowcount == 0:
                connection.execute(insert(tables.workers).values(values))
            connection.execute(delete(tables.workers).where(_WORKERS.seen_at < worker.seen_at - _FORGET_AFTER))

    def complain(self, name: str, trouble: str | None) -> None:
        """Record what keeps a worker from taking jobs, or that nothing does."""
        with writing(self._engine) as connection:
            said = None if trouble is None else trouble[:MAX_TROUBLE]
            connection.execute(update(tables.workers).where(_WORKERS.name == name).values(trouble=said))

    def leave(self, name: str) -> None:
        """Record that a worker has ended."""
        with writing(self._engine) as connection:
            connection.execute(delete(tables.workers).where(_WORKERS.name == name))

    def queue_depth(self) -> int:
        """Return how many jobs wait for a worker."""
        waiting = select(func.count()).where(_JOBS.state == str(JobState.QUEUED))
        with reading(self._engine) as connection:
            return connection.execute(waiting).scalar_one()

    def list(self) -> Sequence[Worker]:
        """Return the workers heard of in the last day, those that hold a job with it, latest first."""
        query = (
            select(*_WORKERS, _JOBS.id.label("job_id"))
            .join(tables.jobs, _JOBS.lease_owner == _WORKERS.name, isouter=True)
            .order_by(_WORKERS.seen_at.desc(), _WORKERS.name)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [read_stored(Worker, row._asdict(), what="worker") for row in rows]
