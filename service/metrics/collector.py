"""The numbers as Prometheus families; register it and expose the registry."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from service.jobs.errors import QueueUnavailableError
from service.jobs.queue import JobQueue
from service.metrics.jobs import JobMetrics, read_job_metrics
from service.platform.clock import utc_now
from service.platform.errors import StoreUnavailableError

_log = structlog.get_logger(__name__)

Counts = Callable[[], Mapping[str, int]]


class InstallationCollector(Collector):
    """Reads the database and the broker at every scrape: the answer is the same from every process.

    What does not answer is left out and reported as `srr_up{part="..."} 0`; a scrape never fails.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        queue: JobQueue | None = None,
        deliveries: Counts | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Build a collector; `deliveries` gives the number of webhook deliveries by state."""
        self._engine = engine
        self._queue = queue
        self._deliveries = deliveries
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        up = GaugeMetricFamily("srr_up", "Whether a part of the installation answers.", labels=["part"])
        try:
            yield from job_families(read_job_metrics(self._engine, now=self._clock()))
            if self._deliveries is not None:
                yield _by_state("srr_webhook_deliveries", "Webhook deliveries by state.", self._deliveries())
            up.add_metric(["database"], 1)
        except StoreUnavailableError as error:
            _log.warning("metrics_incomplete", code=error.code)
            up.add_metric(["database"], 0)
        if self._queue is not None:
            yield from self._broker(self._queue, up)
        yield up

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: registering must not ask the database."""
        return iter(())

    def _broker(self, queue: JobQueue, up: GaugeMetricFamily) -> Iterator[Metric]:
        try:
            yield GaugeMetricFamily("srr_broker_messages", "Messages that wait in the broker.", value=queue.depth())
            up.add_metric(["broker"], 1)
        except QueueUnavailableError as error:
            _log.warning("metrics_incomplete", code=error.code)
            up.add_metric(["broker"], 0)


def job_families(metrics: JobMetrics) -> Iterator[Metric]:
    """Yield the families of the job domain.

    All are gauges: a job that is tried again or deleted leaves its count, and a counter that falls is read as one
    that began anew, with everything in it counted twice.
    """
    yield _by_state("srr_jobs", "Jobs by state.", metrics.jobs)
    documentation = "Jobs that ended in the last hour and were not tried again, by state."
    yield _by_state("srr_jobs_ended_last_hour", documentation, metrics.ended)
    gauges = (
        ("srr_queue_depth", "Jobs that wait for a worker.", metrics.jobs["queued"]),
        ("srr_queue_oldest_seconds", "How long the first in the queue has waited.", metrics.oldest_queued_seconds),
        ("srr_jobs_running", "Jobs a worker holds.", sum(metrics.jobs[name] for name in _HELD_NAMES)),
        ("srr_workers_alive", "Workers heard of within the last minute.", metrics.workers_alive),
        ("srr_workers_unfit", "Those of them that take no job: no disk, memory, GPU or hub.", metrics.workers_unfit),
        (
            "srr_job_wall_seconds_last_hour",
            "Wall-clock time within the last hour that workers held jobs, the last attempt of each; what of it a GPU "
            "computed is not measured.",
            metrics.wall_seconds,
        ),
        ("srr_publish_failures_last_hour", "Jobs that failed while publishing.", metrics.publish_failures),
        ("srr_outbox_unsent", "Messages due that the broker has not taken.", metrics.unsent_messages),
    )
    for name, documentation, value in gauges:
        yield GaugeMetricFamily(name, documentation, value=value)
    if metrics.shortest_lease_seconds is not None:
        documentation = "Until the first lease expires; negative: a worker is lost."
        yield GaugeMetricFamily("srr_lease_remaining_seconds", documentation, value=metrics.shortest_lease_seconds)
    stages = GaugeMetricFamily("srr_stage_seconds", "Mean time of a stage in the last hour.", labels=["stage"])
    for stage, seconds in sorted(metrics.stage_seconds.items()):
        stages.add_metric([stage], seconds)
    yield stages


_HELD_NAMES = ("running", "publishing", "canceling")


def _by_state(name: str, documentation: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=["state"])
    for state, count in counts.items():
        family.add_metric([state], count)
    return family
