"""The client of this version against a service of the next one, which answers with more than this one knows."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from service.api.schemas import job_resource
from service.client import Client, UnreachableError
from service.jobs.memory_store import MemoryJobStore
from tests.service import finished

Answer = Callable[[Any], Client]


@pytest.fixture
def answering() -> Answer:
    """A client whose service answers everything with one document."""

    def build(document: Any) -> Client:
        return Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, json=document)))

    return build


@pytest.fixture
def job() -> dict[str, Any]:
    """A job as this version answers it."""
    return job_resource(finished.succeeded(MemoryJobStore())).model_dump(mode="json")


def newer(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job with fields that came later, on every level."""
    recipe = {**job["recipe"], "speed": "high", "quantizer": {**job["recipe"]["quantizer"], "colour": "red"}}
    work = {**job["work"], "priority": 7, "recipe": recipe}
    return {**job, "cost": 1, "recipe": recipe, "work": work, "source": {**job["source"], "mirror": "x"}}


def test_fields_that_came_later_are_ignored(answering: Answer, job: dict[str, Any]) -> None:
    with answering(newer(job)) as client:
        assert client.job(job["id"]).model_dump(mode="json") == job


def test_a_job_it_cannot_read_does_not_hide_the_others(answering: Answer, job: dict[str, Any]) -> None:
    strange = {**job, "id": "job_" + "0" * 26, "recipe": {**job["recipe"], "quantizer": {"kind": "ternary"}}}

    with answering({"jobs": [strange, newer(job)], "next_cursor": None, "total": 2}) as client:
        assert [one.id for one in client.jobs()] == [job["id"]]


def test_a_report_with_more_in_it_is_read(answering: Answer) -> None:
    report = finished.report()
    stored = report.model_dump(mode="json")

    with answering({**stored, "schema_version": 2, "energy": 1.0}) as client:
        assert client.report("job") == report


def test_what_is_no_report_is_said_to_be_none(answering: Answer) -> None:
    with answering({"of": "tomorrow"}) as client, pytest.raises(UnreachableError, match="not as this version"):
        client.report("job")
