"""A job, an endpoint or a message of a newer version is set aside, and the others are sent."""

from typing import Any

from sqlalchemy import select, update

from service.jobs import tables
from service.notifications.delivering import write_messages
from service.notifications.tables import deliveries, endpoints
from service.platform.database import writing
from tests.service.notifications.conftest import Office


def change(office: Office, table: Any, row_id: str, **values: Any) -> None:
    """Change a stored row, as a newer version may have written it."""
    with writing(office.store.engine) as connection:
        connection.execute(update(table).where(table.c.id == row_id).values(**values))


def test_a_job_that_cannot_be_read_makes_no_message_and_the_others_do(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    strange, other = office.run_job(), office.run_job()
    change(office, tables.jobs, strange.id, work={"kind": "tune"})

    assert office.deliver() == 1

    (delivery,) = office.store.deliveries(endpoint.id)
    assert delivery.payload["data"]["job_id"] == other.id


def test_an_endpoint_that_cannot_be_read_keeps_no_other_from_its_messages(office: Office) -> None:
    strange, endpoint = office.endpoint().endpoint, office.endpoint().endpoint
    change(office, endpoints, strange.id, rules={"form": "pigeon", "types": ["job.succeeded"]})
    office.run_job()

    assert office.deliver() == 1

    assert [one.id for one in office.store.list()] == [endpoint.id]


def test_a_type_of_a_newer_version_is_passed_over(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    with writing(office.store.engine) as connection:
        stored = connection.execute(select(endpoints.c.rules)).scalar_one()
    newer = {**stored, "types": [*stored["types"], "job.paused"], "schema_version": 2, "tone": "warm"}
    change(office, endpoints, endpoint.id, rules=newer)

    assert office.store.get(endpoint.id) == endpoint


def test_a_message_that_cannot_be_read_stops_no_other(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.run_job()
    office.run_job()
    write_messages(office.context)
    first = office.store.deliveries(endpoint.id)[-1]
    change(office, deliveries, first.id, payload=["of", "another", "form"])

    assert office.deliver() == 1
