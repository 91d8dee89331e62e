"""What a worker's main process does at intervals: the duties of the jobs, its scratch space, and a sign of life."""

import time

import structlog

from service.jobs.maintenance import Duty, Maintenance
from service.jobs.opening import Jobs
from service.jobs.workers import Worker, WorkerRegistry
from service.platform.clock import utc_now
from worker.folder_hub import FolderHub
from worker.health import Health
from worker.machine import DeviceProbe
from worker.sweep import sweep_workspaces
from worker.workspace import Workspaces

_log = structlog.get_logger(__name__)


class WorkerDuties:
    """The maintenance thread of a worker; the arguments Celery's signals send are ignored."""

    def __init__(
        self,
        jobs: Jobs,
        workspaces: Workspaces,
        worker: Worker,
        probe: DeviceProbe,
        health: Health,
        *also: Duty,
    ) -> None:
        self._health = health
        self._registry = WorkerRegistry(jobs.engine)
        self._worker = worker
        self._probe = probe
        self._maintenance: Maintenance = jobs.maintenance(self._beat, _sweeper(jobs, workspaces), *also)

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
        self._health.look()


def adopter(hub: FolderHub) -> Duty:
    """Return the duty that imports plain model folders dropped into a folder hub."""

    def adopt() -> None:
        for repo_id in hub.adopt(now=time.time()):
            _log.info("folder_imported", repo_id=repo_id)

    return adopt


def _sweeper(jobs: Jobs, workspaces: Workspaces) -> Duty:
    def sweep() -> None:
        sweep_workspaces(workspaces, jobs.store)

    return sweep
