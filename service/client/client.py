"""Calls of the REST API as methods: values in, values out, errors as exceptions."""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

import httpx2
from pydantic import BaseModel, RootModel, ValidationError

from service.api.key_schemas import KeyList, KeyResource, NewKey, UsageResource
from service.api.schemas import EventData, EventList, JobList, JobResource, RecipeList
from service.api.worker_schemas import WorkerList
from service.client.errors import ApiError, JobFailedError, UnreachableError
from service.edge.problem import Problem
from service.jobs.schema import TERMINAL_STATES, JobState, UnreadableJob
from service.jobs.work import UploadedText
from service.keys.schema import KeyCreate
from service.notifications.schema import Endpoint, NewEndpoint
from service.releases.schema import Watch
from service.submissions.schema import ModelResource, Validation
from srr_core.report import Report, read_report

DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT_SECONDS = 30.0
# The server sends a ping every 15 seconds; a stream that is silent for longer is dead.
_STREAM_TIMEOUT_SECONDS = 45.0
_RECONNECT_SECONDS = 1.0
_LONG_TEXT = 20_000
"""Characters; a longer text is uploaded by itself, because bodies of JSON are small."""
T = TypeVar("T", bound=BaseModel)
_log = logging.getLogger(__name__)


class JobFilters(TypedDict, total=False):
    """Which jobs to list; every given one must match."""

    state: JobState | Sequence[JobState] | None
    model_id: str | None
    recipe: str | None
    tag: str | None
    created_after: datetime | None
    created_before: datetime | None


class _Watches(BaseModel):
    watches: tuple[Watch, ...]


class _Endpoints(BaseModel):
    endpoints: tuple[Endpoint, ...]


class _Jobs(BaseModel):
    """A page whose jobs are read one by one, so that one of a newer service does not hide the others."""

    jobs: list[dict[str, Any]]
    unreadable: list[UnreadableJob] = []
    next_cursor: str | None


class _Document(RootModel[dict[str, Any]]):
    """An answer that is read in a second step."""


class _Nothing(BaseModel):
    """An answer without content."""


class Client:
    """One service at one address. Safe to share between threads; close it, or use it as a context manager."""

    def __init__(
        self, url: str = DEFAULT_URL, *, api_key: str | None = None, transport: httpx2.BaseTransport | None = None
    ) -> None:
        """Remember the address; nothing is sent yet.

        Args:
            url: Where the service is, without `/v1`.
            api_key: Sent as a bearer token; not needed by a service on loopback.
            transport: For tests that run the application in this process.
        """
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx2.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=_TIMEOUT_SECONDS, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

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
        key = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        try:
            return self._call(JobResource, "POST", "/v1/jobs", json=body, headers=key)
        except UnreachableError:
            return self._call(JobResource, "POST", "/v1/jobs", json=body, headers=key)

    def upload_text(self, text: str) -> UploadedText:
        """Upload a text; jobs name it as `{"sha256": ...}` for a week. The same text twice is one."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        return self._call(UploadedText, "POST", "/v1/texts", content=text.encode(), headers=headers)

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

    def inspect(self, model_id: str, *, revision: str = "main", hub_token: str | None = None) -> ModelResource:
        """Return what is known of a model without downloading a weight."""
        body = {"model_id": model_id, "revision": revision, "hub_token": hub_token}
        return self._call(ModelResource, "POST", "/v1/models:inspect", json=body)

    def workers(self) -> WorkerList:
        """Return who could run a job, and how many jobs wait."""
        return self._call(WorkerList, "GET", "/v1/workers")

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

    def watches(self) -> tuple[Watch, ...]:
        """Return the watches over models and organizations."""
        return self._call(_Watches, "GET", "/v1/watches").watches

    def create_watch(self, rules: Mapping[str, Any]) -> Watch:
        """Make a watch; the rules are the body of `POST /v1/watches`."""
        return self._call(Watch, "POST", "/v1/watches", json=rules)

    def delete_watch(self, watch_id: str) -> None:
        """End a watch."""
        self._call(_Nothing, "DELETE", f"/v1/watches/{watch_id}")

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the webhook endpoints that receive job events."""
        return self._call(_Endpoints, "GET", "/v1/webhook-endpoints").endpoints

    def create_endpoint(self, rules: Mapping[str, Any]) -> NewEndpoint:
        """Make an endpoint and return it with its secret; the rules are the body of `POST /v1/webhook-endpoints`."""
        return self._call(NewEndpoint, "POST", "/v1/webhook-endpoints", json=rules)

    def delete_endpoint(self, endpoint_id: str) -> None:
        """End an endpoint."""
        self._call(_Nothing, "DELETE", f"/v1/webhook-endpoints/{endpoint_id}")

    def keys(self) -> KeyList:
        """Return the API keys of the caller."""
        return self._call(KeyList, "GET", "/v1/api-keys")

    def create_key(self, key: KeyCreate) -> NewKey:
        """Make an API key; its text is shown this once."""
        return self._call(NewKey, "POST", "/v1/api-keys", json=key.model_dump(mode="json"))

    def revoke_key(self, key_id: str) -> KeyResource:
        """End an API key."""
        return self._call(KeyResource, "DELETE", f"/v1/api-keys/{key_id}")

    def usage(self) -> UsageResource:
        """Return what the caller uses and may use."""
        return self._call(UsageResource, "GET", "/v1/usage")

    def cancel(self, job_id: str) -> JobResource:
        """Ask for the end of a job."""
        return self._call(JobResource, "POST", f"/v1/jobs/{job_id}/cancel")

    def retry(self, job_id: str, *, hub_token: str | None = None) -> JobResource:
        """Queue a failed or canceled job again."""
        return self._call(JobResource, "POST", f"/v1/jobs/{job_id}/retry", json={"hub_token": hub_token})

    def report(self, job_id: str) -> Report:
        """Return the report of a job that succeeded."""
        answer = self._call(_Document, "GET", f"/v1/jobs/{job_id}/report")
        try:
            return read_report(answer.root)
        except ValueError as error:
            raise self._misunderstood() from error

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

    def _call(self, model: type[T], method: str, path: str, **arguments: Any) -> T:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        self._check(response)
        try:
            return model.model_validate_json(response.content or b"{}", extra="ignore")
        except ValidationError as error:
            raise self._misunderstood() from error

    def _check(self, response: httpx2.Response) -> None:
        if response.is_success:
            return
        try:
            raise ApiError(Problem.model_validate_json(response.content, extra="ignore"))
        except ValidationError as error:
            raise UnreachableError(f"{self._http.base_url} answered {response.status_code}") from error

    def _stream(self, path: str, after: int) -> Iterator[tuple[str, str]]:
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        with self._http.stream("GET", path, headers=headers, timeout=_STREAM_TIMEOUT_SECONDS) as response:
            if not response.is_success:
                response.read()
                self._check(response)
            name, data = "message", ""
            for line in response.iter_lines():
                field, _, value = line.partition(":")
                if field == "event":
                    name = value.strip()
                elif field == "data":
                    data = value.strip()
                elif not line and data:
                    yield name, data
                    name, data = "message", ""

    def _misunderstood(self) -> UnreachableError:
        return UnreachableError(f"{self._http.base_url} answers, but not as this version of the service")

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"no service answers at {self._http.base_url} ({type(error).__name__}); start one with `srr serve`"
        )


def _parameter(value: object) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _readable(job: Mapping[str, Any]) -> JobResource | None:
    try:
        return JobResource.model_validate(job, extra="ignore")
    except ValidationError as error:
        _log.warning("job %s cannot be read by this version of the client: %s", job.get("id"), error.errors()[0]["msg"])
        return None
