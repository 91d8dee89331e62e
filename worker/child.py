"""The process of one job: reads its assignment, runs it, and says how it ended.

Started by the supervisor as `python -m worker.child`. Exit status: 0 when the job's end is in the database,
75 (EX_TEMPFAIL) when it was asked to stop and the supervisor has to say what that means.
"""

import json
import resource
import signal
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import SecretStr

from service.hub.client import HubClient
from service.hub.settings import HubSettings
from service.jobs.policy import RetryPolicy
from service.jobs.ports import JobsOfWorkers
from service.jobs.schema import JobFailure, Lease
from service.jobs.settings import JobsSettings
from service.jobs.sql_store import SqlJobStore
from service.jobs.tenancy import Tenancy
from service.platform.database import open_database
from service.platform.errors import StoreUnavailableError
from service.platform.logging import configure_logging
from service.platform.tracing import configure_tracing, continued_span
from srr_core.errors import StopRequested
from srr_core.recipe.verdicts import CompatibilityRow
from worker.failures import failure_of
from worker.hub_access import HubAccess
from worker.hubs import destination_hub, source_hub
from worker.lifeline import kill_group, watch
from worker.progress import ProgressRecorder
from worker.run_context import Compress, LeaseLostError, RunContext
from worker.runner import run
from worker.settings import WorkerSettings
from worker.supervisor import STOPPED_STATUS
from worker.workspace import Workspace, Workspaces

if TYPE_CHECKING:
    from worker.dataset_hub import DatasetHub

OTHER_SERVERS = ("llama_cpp", "vllm")
"""Modules of servers that a published model is tried in where they are installed; transformers has read it already."""
_log = structlog.get_logger(__name__)


def main(compress: Compress | None = None) -> int:
    """Run the assignment on standard input. `compress` stands in for the core's pipeline in tests."""
    settings = WorkerSettings()
    configure_logging(level=settings.log_level)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the Hub token
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    message = json.loads(sys.stdin.buffer.readline())
    watch(sys.stdin.fileno(), kill_group)
    tracing = configure_tracing("srr-job")
    try:
        with _bound(message):
            return _carry_out(message, settings, compress or _pipeline(), stop.is_set)
    finally:
        if tracing is not None:
            tracing.shutdown()


def _carry_out(
    message: dict[str, Any], settings: WorkerSettings, compress: Compress, asked_to_stop: Callable[[], bool]
) -> int:
    url = message.get("database_url")
    jobs = JobsSettings() if url is None else JobsSettings(database_url=SecretStr(url))
    engine = open_database(jobs.resolved_database_url)
    try:
        store = SqlJobStore(engine, retries=RetryPolicy(first=jobs.retry_first))
        tenancy = Tenancy(engine)
        return _run(_context(message, settings, jobs, store, tenancy, compress, asked_to_stop), message["traceparent"])
    finally:
        engine.dispose()


def _run(context: RunContext, traceparent: str | None) -> int:
    try:
        with continued_span("run job", traceparent, {"job.id": context.lease.job_id}):
            run(context)
    except StopRequested:
        return STOPPED_STATUS
    except LeaseLostError:
        _log.warning("lease_lost")
        return STOPPED_STATUS
    except Exception as error:  # noqa: BLE001  # the edge: every failure becomes words here
        failure = failure_of(error)
        _log.error("job_failed", code=failure.code, exc_info=failure.code == "internal_error")
        return _record(context, failure)
    return 0


def _record(context: RunContext, failure: JobFailure) -> int:
    try:
        context.store.fail(context.lease, failure)
    except StoreUnavailableError:
        return STOPPED_STATUS
    return 0


def _context(
    message: dict[str, Any],
    settings: WorkerSettings,
    jobs: JobsSettings,
    store: JobsOfWorkers,
    tenancy: Tenancy,
    compress: Compress,
    asked_to_stop: Callable[[], bool],
) -> RunContext:
    hubs = HubSettings()
    folder = hubs.resolved_folder_hub_dir(jobs.data_dir)
    workspaces = Workspaces(settings.resolved_scratch_dir(jobs.data_dir), reserve_bytes=settings.disk_reserve_bytes)
    lease = Lease(message["job_id"], message["attempt"], message["worker"])
    return RunContext(
        lease=lease,
        access=HubAccess.from_message(message["access"]),
        tenant=tenancy.of(message["owner"]),
        store=store,
        source_hub=source_hub(hubs, folder),
        destination_hub=destination_hub(hubs, folder),
        compress=compress,
        device=settings.device,
        require_free=workspaces.require_free,
        workspace=Workspace(Path(message["workspace"])),
        cache=settings.resolved_scratch_dir(jobs.data_dir) / "cache",
        datasets=None if hubs.source_hub == "folder" else lambda: _datasets(hubs),
        progress=ProgressRecorder(store, lease),
        asked_to_stop=asked_to_stop,
        smoke_test=_smoke_test(settings),
    )


def _datasets(hubs: HubSettings) -> "DatasetHub":
    # Imported here for the same reason as below.
    from worker.dataset_hub import DatasetHub

    return DatasetHub(HubClient(hubs.endpoint))


def _smoke_test(settings: WorkerSettings) -> Callable[[Path], tuple[CompatibilityRow, ...]]:
    if settings.vllm_python is None and not any(map(find_spec, OTHER_SERVERS)):
        return lambda _: ()

    def try_it(artifact: Path) -> tuple[CompatibilityRow, ...]:
        from srr_core.pipeline.smoke import smoke_test_others

        interpreters = {"vllm": str(settings.vllm_python)} if settings.vllm_python is not None else {}
        try:
            return smoke_test_others(artifact, interpreters=interpreters)
        except Exception:  # noqa: BLE001  # the model is published: whatever a server does, the job has succeeded
            _log.exception("smoke_test_failed")
            return ()

    return try_it


def _pipeline() -> Compress:
    # Imported here: torch takes seconds to load, and a stand-in does not need it.
    from srr_core.pipeline import compress

    return compress


def _bound(message: dict[str, Any]) -> Any:
    return structlog.contextvars.bound_contextvars(job_id=message["job_id"], attempt=message["attempt"])


if __name__ == "__main__":
    sys.exit(main())
