"""How workers are woken: a message with a job's id and attempt, and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service.jobs.errors import QueueUnavailableError
from service.jobs.settings import JobsSettings

TASK_NAME = "srr.run_job"
"""The service sends by name and never imports the worker."""
_CONNECT_SECONDS = 3
_OUTAGES = (OperationalError, OSError, RedisError)
"""kombu translates what happens while it connects; what happens later is the client library's own."""


class JobQueue(Protocol):
    """Carries a wake-up to some worker, at least once. Workers claim jobs in the store, so twice does no harm."""

    def enqueue(self, job_id: str, attempt: int, *, traceparent: str | None = None) -> None:
        """Hand one message to the broker. Raises QueueUnavailableError."""

    def depth(self) -> int:
        """Return how many messages wait in the broker. Raises QueueUnavailableError."""

    def ping(self) -> None:
        """Raise QueueUnavailableError when the broker does not answer."""


class CeleryJobQueue:
    """A `JobQueue` over a Celery application."""

    def __init__(self, app: Celery, queue_name: str) -> None:
        self._app = app
        self._queue_name = queue_name

    def enqueue(self, job_id: str, attempt: int, *, traceparent: str | None = None) -> None:
        """Hand one message to the broker, once; the outbox tries again."""
        headers = {} if traceparent is None else {"traceparent": traceparent}
        try:
            self._app.send_task(
                TASK_NAME,
                args=(job_id, attempt),
                queue=self._queue_name,
                headers=headers,
                retry=False,
                ignore_result=True,
            )
        except _OUTAGES as error:
            raise _unavailable() from error

    def depth(self) -> int:
        """Return how many messages wait in the broker."""
        try:
            with self._app.connection_for_read() as connection:
                connection.ensure_connection(max_retries=1, timeout=_CONNECT_SECONDS)
                bound = self._app.amqp.queues[self._queue_name].bind(connection.default_channel)
                return int(bound.queue_declare(passive=False).message_count)
        except _OUTAGES as error:
            raise _unavailable() from error

    def ping(self) -> None:
        """Raise QueueUnavailableError when the broker does not answer."""
        self.depth()


class MemoryJobQueue:
    """A `JobQueue` that is a list: for tests, and for running a worker in the same process."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, int]] = []
        self.is_down = False

    def enqueue(self, job_id: str, attempt: int, *, traceparent: str | None = None) -> None:
        """Append one message, unless `is_down`."""
        self.ping()
        self.messages.append((job_id, attempt))

    def depth(self) -> int:
        """Return how many messages were not taken yet."""
        self.ping()
        return len(self.messages)

    def ping(self) -> None:
        """Raise QueueUnavailableError while `is_down`."""
        if self.is_down:
            raise _unavailable()


def create_celery(settings: JobsSettings) -> Celery:
    """Return the Celery application both edges use, with no task in it.

    Reliability comes from the database (claim, lease, reaper), so Celery is told to redeliver nothing by itself:
    a message whose worker died is acknowledged or forgotten, and the reaper sends the next attempt.
    """
    app = Celery("srr", set_as_current=False)
    app.conf.update(
        broker_url=settings.resolved_broker_url,
        broker_transport_options=_transport_options(settings),
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=_CONNECT_SECONDS,
        broker_pool_acquire_timeout=10,
        task_default_queue=settings.queue_name,
        task_create_missing_queues=True,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        task_reject_on_worker_lost=False,
        task_retry_on_worker_lost=False,
        task_track_started=True,
        visibility_timeout=settings.visibility_timeout_seconds,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=settings.broker_url is not None,
        worker_pool_start_method="spawn",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=settings.broker_url is not None,
    )
    return app


def _transport_options(settings: JobsSettings) -> Mapping[str, Any]:
    if urlsplit(settings.resolved_broker_url).scheme == "filesystem":
        return _file_folders(settings.data_dir / "broker")
    master = {"master_name": settings.broker_master_name} if settings.broker_master_name is not None else {}
    return {
        **master,
        "visibility_timeout": settings.visibility_timeout_seconds,
        "global_keyprefix": settings.key_prefix,
        "health_check_interval": 25,
        "socket_keepalive": True,
        "socket_timeout": 30,
        "socket_connect_timeout": _CONNECT_SECONDS,
    }


def _file_folders(root: Path) -> Mapping[str, Any]:
    # One folder for both directions: kombu moves a message from `out` of the sender to `in` of the reader.
    folders = {name: root / name for name in ("messages", "processed", "control")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(folders["messages"]),
        "data_folder_out": str(folders["messages"]),
        "processed_folder": str(folders["processed"]),
        "control_folder": str(folders["control"]),
        "store_processed": False,
        "polling_interval": 0.2,
    }


def _unavailable() -> QueueUnavailableError:
    return QueueUnavailableError("the broker does not answer; the job is kept and will be sent when it does")
