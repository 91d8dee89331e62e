"""What a worker's main process does at intervals: the duties of the jobs, its scratch space, and a sign of life."""

from service.jobs.maintenance import Duty, Maintenance
from service.jobs.opening import Jobs
from service.jobs.workers import Worker, WorkerRegistry
from service.platform.clock import utc_now
from worker.machine import DeviceProbe
from worker.sweep import sweep_workspaces
from worker.workspace import Workspaces


class WorkerDuties:
    """The maintenance thread of a worker; the arguments Celery's signals send are ignored."""

    def __init__(self, jobs: Jobs, workspaces: Workspaces, worker: Worker, probe: DeviceProbe) -> None:
        self._registry = WorkerRegistry(jobs.engine)
        self._worker = worker
        self._probe = probe
        self._maintenance: Maintenance = jobs.maintenance(self._beat, _sweeper(jobs, workspaces))

    def start(self, **_: object) -> None:
        """Start the thread; a handler of `worker_ready`."""
        self._probe.start()
        self._maintenance.start()

    def stop(self, **_: object) -> None:
        """End the thread and leave the list of workers; a handler of `worker_shutdown`."""
        self._maintenance.stop()
        self._probe.stop()
        self._registry.leave(self._worker.name)

    def _beat(self) -> None:
        found = self._probe.result()
        if found is not None:
            self._worker = self._worker.model_copy(update=found.model_dump())
        self._registry.beat(self._worker.model_copy(update={"seen_at": utc_now()}))


def _sweeper(jobs: Jobs, workspaces: Workspaces) -> Duty:
    def sweep() -> None:
        sweep_workspaces(workspaces, jobs.store)

    return sweep
