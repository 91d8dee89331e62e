"""Calls about fine-tunings: what one learned, its checkpoints, and several beside each other."""

from collections.abc import Sequence

from service.api.schemas import CheckpointList, JobResource, MetricSeries, TunedRunList
from service.client.connection import Connection
from service.jobs.trainings import Checkpoint
from service.jobs.tuned_runs import TunedRun
from srr_core.tuners.report import TuningReport


class Finetunings(Connection):
    """What comes of trainings."""

    def tuning(self, job_id: str) -> TuningReport:
        """Return the report of a fine-tuning that succeeded."""
        return self._call(TuningReport, "GET", f"/v1/jobs/{job_id}/report")

    def metrics(self, job_id: str) -> MetricSeries:
        """Return the thinned series of a fine-tuning so far."""
        return self._call(MetricSeries, "GET", f"/v1/jobs/{job_id}/metrics")

    def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """Return the checkpoints of a fine-tuning, in order."""
        return tuple(self._call(CheckpointList, "GET", f"/v1/jobs/{job_id}/checkpoints").checkpoints)

    def kept_checkpoints(self, job_id: str) -> tuple[int, ...]:
        """Return the steps of the checkpoints that were published with the result of a fine-tuning."""
        return tuple(self._call(CheckpointList, "GET", f"/v1/jobs/{job_id}/checkpoints").kept)

    def compare_finetunings(self, job_ids: Sequence[str]) -> tuple[TunedRun, ...]:
        """Return fine-tunings beside each other: start, learning rate, best metric and curves of each."""
        params = {"job": list(job_ids)}
        return tuple(self._call(TunedRunList, "GET", "/v1/jobs:compare", params=params).runs)

    def publish_checkpoint(
        self,
        job_id: str,
        step: int,
        *,
        destination: str,
        private: bool | None = None,
        hub_token: str | None = None,
    ) -> JobResource:
        """Queue a job that measures a kept checkpoint and publishes it by itself, and return the job.

        To go on from one, fine-tune with `tuning={"start": {"kind": "artifact", "checkpoint": step}}`.

        Raises:
            ApiError: among others, the checkpoint was not kept.
        """
        body = {"destination": {"repo_id": destination, "private": private}, "hub_token": hub_token}
        return self._call(JobResource, "POST", f"/v1/jobs/{job_id}/checkpoints/{step}/publish", json=body)
