"""What an operator watches: the state of the queue, the workers and the deliveries, for Prometheus."""

from service.metrics.collector import InstallationCollector
from service.metrics.jobs import JobMetrics, read_job_metrics

__all__ = ["InstallationCollector", "JobMetrics", "read_job_metrics"]
