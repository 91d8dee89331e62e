"""The worker: a Celery application, and the composition root of its processes.

The main process receives messages and does the periodic duties; its one pool process supervises; every job runs
in a process of its own below that. Only the last of them ever imports torch.
"""

import functools
import os
import socket
import sys
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

from celery import Celery, signals

from service.hub.settings import HubSettings
from service.jobs.errors import CredentialError
from service.jobs.maintenance import Duty
from service.jobs.night import NightShift
from service.jobs.opening import Jobs, open_jobs
from service.jobs.queue import create_celery
from service.jobs.settings import JobsSettings
from service.jobs.workers import Worker, WorkerRegistry
from service.platform.clock import utc_now
from service.platform.errors import StoreUnavailableError
from service.platform.ids import new_id
from service.platform.logging import configure_logging
from service.platform.tracing import configure_tracing
from worker.duties import WorkerDuties, adopter
from worker.folder_hub import FolderHub
from worker.health import Check, DeviceCheck, Health, machine_checks
from worker.lease_keeper import Limits
from worker.lifeline import end_with_starter
from worker.machine import DeviceProbe, host_memory_bytes, scratch_bytes
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor
from worker.workspace import Workspaces

_NAME_VARIABLE = "SRR_WORKER_PROCESS"
_ARGUMENTS = ("--quiet", "worker", "--concurrency=1", "--pool=prefork", "--without-gossip", "--without-mingle")

_MEMORY_SHARE = 0.9
"""What one job may have of a machine: with more, the kernel ends something, and not always the job."""
CHILD = (sys.executable, "-m", "worker.child")


def create_app() -> Celery:
    """Return the Celery application of a worker, configured from the environment."""
    settings = WorkerSettings()
    app = create_celery(JobsSettings())
    app.conf.update(
        include=["worker.tasks"],
        worker_soft_shutdown_timeout=settings.shutdown_seconds,
        worker_enable_soft_shutdown_on_idle=False,
        worker_proc_alive_timeout=60,
    )
    return app


def __getattr__(name: str) -> Any:
    """Return the application for `celery -A worker.app`; importing this module reads no environment."""
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Run a worker in this process until a signal. SIGTERM ends it in order: the job goes back to the queue.

    Raises:
        SystemExit: with one line instead of a stack trace when the database does not answer.
    """
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")  # soft shutdown; read when celery.apps.worker is imported
    # The pool process inherits the name: its leases and our sign of life are then of one worker.
    name = os.environ.setdefault(_NAME_VARIABLE, f"{new_id('worker')}@{socket.gethostname()}")
    settings = WorkerSettings()
    configure_logging(level=settings.log_level)
    end_with_starter(grace_seconds=settings.shutdown_seconds + settings.grace_seconds)
    try:
        with open_jobs(JobsSettings()) as jobs:
            probe = DeviceProbe(_probe_command(settings))
            described = _describe(name, settings, jobs)
            adopting = _hub_duties(HubSettings(), jobs)
            health = _health(name, settings, jobs)
            duties = WorkerDuties(jobs, _workspaces(settings, jobs), described, probe, health, *adopting)
            signals.worker_ready.connect(duties.start, weak=False)
            signals.worker_shutdown.connect(duties.stop, weak=False)
            signals.setup_logging.connect(_keep_logging, weak=False)
            create_app().worker_main([*_ARGUMENTS, f"--hostname={name}"])
    except (StoreUnavailableError, CredentialError) as error:
        raise SystemExit(f"the worker cannot start: {error}") from None


@functools.cache
def process_supervisor() -> Supervisor:
    """Return the supervisor of this process, built at its first job and kept until the process ends."""
    settings = WorkerSettings()
    configure_logging(level=settings.log_level)
    open_parts = ExitStack()
    tracing = configure_tracing("srr-worker")
    if tracing is not None:
        open_parts.callback(tracing.shutdown)
    signals.worker_process_shutdown.connect(lambda **_: open_parts.close(), weak=False)
    return build_supervisor(settings, open_parts.enter_context(open_jobs(JobsSettings())))


def build_supervisor(settings: WorkerSettings, jobs: Jobs) -> Supervisor:
    """Return a supervisor over an open job domain."""
    name = os.environ.get(_NAME_VARIABLE) or f"{new_id('worker')}@{socket.gethostname()}"
    device = DeviceCheck(_probe_command(settings))
    return Supervisor(
        jobs.store,
        _workspaces(settings, jobs),
        Limits(
            lease=jobs.settings.lease,
            heartbeat_seconds=jobs.settings.heartbeat_seconds,
            time_limit_seconds=settings.time_limit_seconds,
            disk_budget_bytes=settings.disk_budget_bytes,
            grace_seconds=settings.grace_seconds,
            plan_seconds=settings.plan_seconds,
            memory_budget_bytes=settings.memory_budget_bytes or _MEMORY_SHARE * host_memory_bytes(),
        ),
        worker=name,
        command=CHILD,
        vault=jobs.vault,
        database_url=jobs.settings.resolved_database_url,
        own_token=settings.hub_token.get_secret_value() if settings.hub_token is not None else None,
        loan_of=jobs.tenancy.loan,
        health=_health(name, settings, jobs, device),
        on_crash=device.suspect,
    )


def _health(name: str, settings: WorkerSettings, jobs: Jobs, *more: Check) -> Health:
    registry = WorkerRegistry(jobs.engine)

    def tell(complaint: str | None) -> None:
        registry.complain(name, complaint)

    shift = NightShift(jobs.engine)

    def set_apart() -> str | None:
        try:
            return shift.apart(name, socket.gethostname())
        except StoreUnavailableError:
            return None  # a claim asks the same database

    checks = machine_checks(settings, HubSettings(), _workspaces(settings, jobs))
    return Health((set_apart, *checks, *more), tell=tell)


def _probe_command(settings: WorkerSettings) -> tuple[str, ...]:
    return (sys.executable, "-m", "worker.probe", settings.device)


def _workspaces(settings: WorkerSettings, jobs: Jobs) -> Workspaces:
    root = settings.resolved_scratch_dir(jobs.settings.data_dir)
    return Workspaces(root, reserve_bytes=settings.disk_reserve_bytes)


def _hub_duties(settings: HubSettings, jobs: Jobs) -> tuple[Duty, ...]:
    if settings.source_hub == "huggingface":
        return ()
    return (adopter(FolderHub(settings.resolved_folder_hub_dir(jobs.settings.data_dir))),)


def _describe(name: str, settings: WorkerSettings, jobs: Jobs) -> Worker:
    now = utc_now()
    return Worker(
        name=name,
        host=socket.gethostname(),
        device=settings.device,
        host_memory_bytes=host_memory_bytes(),
        scratch_bytes=scratch_bytes(
            settings.resolved_scratch_dir(jobs.settings.data_dir),
            reserve_bytes=settings.disk_reserve_bytes,
            budget_bytes=settings.disk_budget_bytes,
        ),
        has_hub_token=settings.hub_token is not None,
        version=version("srr-compression"),
        started_at=now,
        seen_at=now,
    )


def _keep_logging(**_: Any) -> None:
    """Tell Celery that logging is configured already."""


if __name__ == "__main__":
    main()
