"""Endpoints as their owners make them: what is refused, what is hidden, and what a trial says."""

import json
from typing import Any

import pytest

from service.notifications.delivering import send_messages
from service.notifications.endpoints import (
    create_endpoint,
    send_trial,
)
from service.notifications.errors import EndpointNotFoundError, InvalidEndpointError, UnsafeAddressError
from service.notifications.messages import body, mail, slack_body
from service.notifications.schema import EndpointRules
from tests.service.notifications.conftest import Office


def test_secret_is_stored_sealed(office: Office) -> None:
    made = office.endpoint()

    assert made.secret.startswith("whsec_")
    assert made.secret not in str(office.store.secrets(made.endpoint.id))
    assert made.secret not in repr(made)


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ({"url": "http://example.org"}, UnsafeAddressError),
        ({"url": "https://127.0.0.1"}, UnsafeAddressError),
        ({"url": "mailto:a@example.org?bcc=b@example.org", "form": "mail"}, InvalidEndpointError),
        ({"url": "mailto:nobody", "form": "mail"}, InvalidEndpointError),
        ({"url": "mailto:a@x.org%0ABcc:b@x.org", "form": "mail"}, InvalidEndpointError),
        ({"url": "mailto:a%00b@example.org", "form": "mail"}, InvalidEndpointError),
        ({"url": "https://example.org", "form": "mail"}, InvalidEndpointError),
    ],
)
def test_endpoint_that_could_not_be_sent_to_is_refused(
    office: Office, rules: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        create_endpoint(
            EndpointRules(**rules), owner="a", store=office.store, vault=office.vault, mail_server="mail.example.org"
        )


def test_mail_endpoint_is_refused_where_there_is_no_mail_server(office: Office) -> None:
    rules = EndpointRules(url="mailto:name@example.org", form="mail")

    with pytest.raises(InvalidEndpointError, match="SERVICE_MAIL_SERVER"):
        create_endpoint(rules, owner="a", store=office.store, vault=office.vault)
    assert office.store.list() == []


def test_endpoint_of_somebody_else_does_not_exist(office: Office) -> None:
    endpoint = office.endpoint().endpoint

    with pytest.raises(EndpointNotFoundError):
        office.store.get(endpoint.id, owner="bob")
    with pytest.raises(EndpointNotFoundError):
        send_trial(endpoint.id, owner="bob", store=office.store)
    office.store.delete(endpoint.id, owner="alice")
    assert office.store.list() == []


def test_trial_message_reads_well_in_every_form(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    message = send_trial(endpoint.id, owner="alice", store=office.store, clock=lambda: office.now)

    assert send_messages(office.context) == 1
    assert json.loads(body(message.payload))["type"] == "endpoint.test"
    assert "works" in slack_body(message.payload)
    assert "works" in mail(message.payload)[0]
