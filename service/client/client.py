"""Calls of the REST API as methods: values in, values out, errors as exceptions."""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

import httpx2
from pydantic import BaseModel, RootModel, ValidationError

from service.api.schemas import (
    CheckpointList,
    EventData,
    EventList,
    JobList,
    JobResource,
    MetricSeries,
    RecipeList,
    TunedRunList,
)
from service.client.administration import Administration
from service.client.errors import JobFailedError, UnreachableError
from service.jobs.schema import TERMINAL_STATES, JobState, UnreadableJob
from service.jobs.trainings import Checkpoint
from service.jobs.tuned_runs import TunedRun
from service.jobs.work import UploadedText
from service.submissions.schema import ModelResource, Validation
from srr_core.conversion_report import ConversionReport
from srr_core.evaluation_report import EvaluationReport
from srr_core.report import Report, read_report
from srr_core.tuners.report import TuningReport

_RECONNECT_SECONDS = 1.0
_LONG_TEXT = 20_000
"""Characters; a longer text is uploaded by itself, because bodies of JSON are small."""
_log = logging.getLogger(__name__)


class JobFilters(TypedDict, total=False):
    """Which jobs to list; every given one must match."""

    state: JobState | Sequence[JobState] | None
    kind: str | None
    model_id: str | None
    recipe: str | None
    tag: str | None
    created_after: datetime | None
    created_before: datetime | None


class JobChoices(TypedDict, total=False):
    """What may be said of a job of any kind."""

    tags: tuple[str, ...]
    force: bool
    hub_token: str | None
    idempotency_key: str | None


class _Jobs(BaseModel):
    """A page whose jobs are read one by one, so that one of a newer service does not hide the others."""

    jobs: list[dict[str, Any]]
    unreadable: list[UnreadableJob] = []
    next_cursor: str | None


class _Document(RootModel[dict[str, Any]]):
    """An answer that is read in a second step."""


class Client(Administration):
    """One service at one address. Safe to share between threads; close it, or use it as a context manager."""

    def submit(
        self,
        model_id: str,
        *,
        destination: str,
        recipe: str | Mapping[str, Any] = "srr",
        revision: str = "main",
        private: bool | None = None,
        calibration: Mapping[str, Any] | None = None,
        evaluation: Mapping[str, Any] | None = None,
        tags: tuple[str, ...] = (),
        force: bool = False,
        acknowledge_license: bool = False,
        hub_token: str | None = None,
        idempotency_key: str | None = None,
    ) -> JobResource:
        """Queue a job and return it. A lost answer is asked for again; the key makes that harmless.

        Args:
            force: Run even when a job of yours did or does the same; otherwise that job may be returned.
            acknowledge_license: You have read the model's unclear licence, and it allows this.

        Raises:
            ApiError: the request is refused; `problem.errors` names each wrong field.
            UnreachableError: no service answers.
        """
        body = {
            "source": {"model_id": model_id, "revision": revision},
            "recipe": recipe,
            "destination": {"repo_id": destination, "private": private},
            "calibration": self._named(calibration),
            "evaluation": self._named(evaluation),
            "tags": tags,
            "force": force,
            "acknowledge_license": acknowledge_license,
            "hub_token": hub_token,
        }
        return self.create(body, idempotency_key=idempotency_key)

    def create(self, body: Mapping[str, Any], *, idempotency_key: str | None = None) -> JobResource:
        """Queue a job of any kind and return it; the body is that of `POST /v1/jobs`.

        Raises:
            ApiError, UnreachableError: as `submit` says.
        """
        key = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        try:
            return self._call(JobResource, "POST", "/v1/jobs", json=body, headers=key)
        except UnreachableError:
            return self._call(JobResource, "POST", "/v1/jobs", json=body, headers=key)

    def upload_text(self, text: str) -> UploadedText:
        """Upload a text; jobs name it as `{"sha256": ...}` for a week. The same text twice is one."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        return self._call(UploadedText, "POST", "/v1/texts", content=text.encode(), headers=headers)

    def evaluate(
        self,
        model_id: str,
        *,
        revision: str = "main",
        reference: str | None = None,
        reference_revision: str = "main",
        evaluators: Sequence[str | Mapping[str, Any]] = (),
        text: str | None = None,
        pairs: str | None = None,
        destination: str | None = None,
        private: bool | None = None,
        **choices: Unpack[JobChoices],
    ) -> JobResource:
        """Queue an evaluation and return it.

        Args:
            reference: What the model is compared with, such as the one it was made from.
            evaluators: Names, or objects with their fields; none: what suits the model.
            destination: A repository for the report; None leaves it with the job.

        Raises:
            ApiError, UnreachableError: as `submit` says.
        """
        key = choices.pop("idempotency_key", None)
        body = {
            "kind": "evaluate",
            "source": {"model_id": model_id, "revision": revision},
            "reference": None if reference is None else {"model_id": reference, "revision": reference_revision},
            "evaluators": list(evaluators),
            "text": None if text is None else self._named({"text": text}),
            "pairs": None if pairs is None else self._named({"text": pairs}),
            "destination": None if destination is None else {"repo_id": destination, "private": private},
            **choices,
        }
        return self.create(body, idempotency_key=key)

    def finetune(
        self,
        model_id: str,
        *,
        destination: str,
        data: Mapping[str, Any],
        tuning: Mapping[str, Any] | None = None,
        validation: Mapping[str, Any] | None = None,
        revision: str = "main",
        private: bool | None = None,
        calibration: str | None = None,
        neutral: str | None = None,
        acknowledge_license: bool = False,
        **choices: Unpack[JobChoices],
    ) -> JobResource:
        """Queue a fine-tuning and return it.

        Args:
            data: `{"text": ..., "format": "jsonl"}`, or `{"dataset": ..., "revision": COMMIT, "path": ...}`. A long
                text is uploaded by itself.
            tuning: Fields that differ from the usual ones; `start` and `task` may be names.
            validation: Rows to judge by, with their text; a share of the others by default.
            neutral: A text to measure on how far the model moves.

        Raises:
            ApiError, UnreachableError: as `submit` says.
        """
        key = choices.pop("idempotency_key", None)
        body = {
            "kind": "finetune",
            "source": {"model_id": model_id, "revision": revision},
            "destination": {"repo_id": destination, "private": private},
            "data": self._named(data),
            "tuning": tuning or {},
            "validation": self._named(validation),
            "calibration": None if calibration is None else self._named({"text": calibration}),
            "neutral": None if neutral is None else self._named({"text": neutral}),
            "acknowledge_license": acknowledge_license,
            **choices,
        }
        return self.create(body, idempotency_key=key)

    def convert(
        self,
        model_id: str,
        *,
        target: str | Mapping[str, Any],
        destination: str,
        revision: str = "main",
        private: bool | None = None,
        acknowledge_license: bool = False,
        **choices: Unpack[JobChoices],
    ) -> JobResource:
        """Queue a conversion of an artifact and return it.

        Args:
            target: `gguf`, `gptq` or `merged`, or an object with fields such as `{"kind": "gguf", "merged": "q8_0"}`.

        Raises:
            ApiError, UnreachableError: as `submit` says; a format that the artifact cannot have is refused with the
                reason and what would do.
        """
        key = choices.pop("idempotency_key", None)
        body = {
            "kind": "convert",
            "source": {"model_id": model_id, "revision": revision},
            "target": target,
            "destination": {"repo_id": destination, "private": private},
            "acknowledge_license": acknowledge_license,
            **choices,
        }
        return self.create(body, idempotency_key=key)

    def validate(
        self,
        model_id: str,
        *,
        destination: str,
        recipe: str | Mapping[str, Any] = "srr",
        revision: str = "main",
        acknowledge_license: bool = False,
        hub_token: str | None = None,
    ) -> Validation:
        """Return what would become of a submission, and change nothing."""
        body = {
            "source": {"model_id": model_id, "revision": revision},
            "recipe": recipe,
            "destination": {"repo_id": destination},
            "acknowledge_license": acknowledge_license,
            "hub_token": hub_token,
        }
        return self._call(Validation, "POST", "/v1/jobs:validate", json=body)

    def check(self, body: Mapping[str, Any]) -> Validation:
        """Return what would become of a job of any kind, and change nothing; the body is that of `POST /v1/jobs`.

        For a fine-tuning it says what would be learned (`data`) and what that would take (`training`).
        """
        return self._call(Validation, "POST", "/v1/jobs:validate", json=body)

    def inspect(self, model_id: str, *, revision: str = "main", hub_token: str | None = None) -> ModelResource:
        """Return what is known of a model without downloading a weight."""
        body = {"model_id": model_id, "revision": revision, "hub_token": hub_token}
        return self._call(ModelResource, "POST", "/v1/models:inspect", json=body)

    def job(self, job_id: str) -> JobResource:
        """Return a job as it is now."""
        return self._call(JobResource, "GET", f"/v1/jobs/{job_id}")

    def jobs(self, *, limit: int | None = None, **filters: Unpack[JobFilters]) -> Iterator[JobResource]:
        """Yield jobs, newest first; further pages are read when they are needed.

        Args:
            limit: Jobs in one page, not in all; None is the service's own choice.
        """
        cursor: str | None = None
        while True:
            page = self.job_page(limit=limit, cursor=cursor, **filters)
            yield from page.jobs
            cursor = page.next_cursor
            if cursor is None:
                return

    def job_page(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[JobFilters]
    ) -> JobList:
        """Return one page of jobs; pass its `next_cursor` for the next one."""
        wanted = {**filters, "limit": limit, "cursor": cursor}
        given = {name: _parameter(value) for name, value in wanted.items() if value is not None}
        page = self._call(_Jobs, "GET", "/v1/jobs", params=given)
        jobs = [job for job in map(_readable, page.jobs) if job is not None]
        return JobList(jobs=jobs, unreadable=page.unreadable, next_cursor=page.next_cursor)

    def cancel(self, job_id: str) -> JobResource:
        """Ask for the end of a job."""
        return self._call(JobResource, "POST", f"/v1/jobs/{job_id}/cancel")

    def retry(self, job_id: str, *, hub_token: str | None = None) -> JobResource:
        """Queue a failed or canceled job again."""
        return self._call(JobResource, "POST", f"/v1/jobs/{job_id}/retry", json={"hub_token": hub_token})

    def evaluation(self, job_id: str) -> EvaluationReport:
        """Return the report of an evaluation that succeeded."""
        return self._call(EvaluationReport, "GET", f"/v1/jobs/{job_id}/report")

    def conversion(self, job_id: str) -> ConversionReport:
        """Return the report of a conversion that succeeded."""
        return self._call(ConversionReport, "GET", f"/v1/jobs/{job_id}/report")

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

    def report(self, job_id: str) -> Report:
        """Return the report of a compression that succeeded."""
        try:
            return read_report(self.stored_report(job_id))
        except ValueError as error:
            raise self._misunderstood() from error

    def stored_report(self, job_id: str) -> dict[str, Any]:
        """Return the report of a job of any kind that succeeded, as its worker wrote it."""
        return self._call(_Document, "GET", f"/v1/jobs/{job_id}/report").root

    def recipes(self) -> RecipeList:
        """Return the named recipes."""
        return self._call(RecipeList, "GET", "/v1/recipes")

    def logs(self, job_id: str, *, after: int = 0) -> Iterator[EventData]:
        """Yield the events of a job so far; further pages are read when they are needed."""
        while True:
            page = self._call(EventList, "GET", f"/v1/jobs/{job_id}/logs", params={"after": after})
            yield from page.events
            if not page.events:
                return
            after = page.events[-1].sequence

    def events(self, job_id: str, *, after: int = 0) -> Iterator[EventData]:
        """Yield the events of a job as they happen, each once and in order, until it has ended.

        A broken stream is resumed behind the last event.
        """
        is_over = False
        while not is_over:
            try:
                for name, data in self._stream(f"/v1/jobs/{job_id}/events", after):
                    if name == "end":
                        is_over = True
                        break
                    event = EventData.model_validate_json(data, extra="ignore")
                    after = event.sequence
                    yield event
            except httpx2.TransportError:
                # Asking for the job tells a network hiccup from a service that is gone.
                self.job(job_id)
            if not is_over:
                time.sleep(_RECONNECT_SECONDS)

    def wait(self, job_id: str) -> JobResource:
        """Return a job when it has succeeded.

        Raises:
            JobFailedError: it failed or was canceled.
        """
        for _event in self.events(job_id):
            pass
        job = self.job(job_id)
        if job.state in TERMINAL_STATES and job.state is not JobState.SUCCEEDED:
            raise JobFailedError(job)
        return job

    def _named(self, windows: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        text = windows.get("text") if windows is not None else None
        if windows is None or not isinstance(text, str) or len(text) <= _LONG_TEXT:
            return windows
        return {**windows, "text": None, "sha256": self.upload_text(text).sha256}


def _parameter(value: object) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _readable(job: Mapping[str, Any]) -> JobResource | None:
    try:
        return JobResource.model_validate(job, extra="ignore")
    except ValidationError as error:
        _log.warning("job %s cannot be read by this version of the client: %s", job.get("id"), error.errors()[0]["msg"])
        return None
