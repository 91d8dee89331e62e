"""The pages of webhook endpoints and of the messages to them."""

import re
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from service.jobs.credentials import CredentialVault
from service.notifications.endpoints import create_endpoint, open_secrets, send_trial
from service.notifications.schema import Attempt, DeliveryState, Endpoint, EndpointRules
from service.notifications.store import NotificationStore
from tests.service.web.visiting import token_of

ADDRESS = "https://93.184.216.34/hook"
FORM = {"url": ADDRESS, "form": "slack", "types": ["job.failed"], "description": "Night watch"}


@pytest.fixture
def endpoint(notifications: NotificationStore, vault: CredentialVault) -> Endpoint:
    """An endpoint that is told what everybody is told."""
    return create_endpoint(EndpointRules(url=ADDRESS), owner="local", store=notifications, vault=vault).endpoint


def test_an_endpoint_takes_every_choice_and_shows_its_secret_once(
    http: TestClient, notifications: NotificationStore
) -> None:
    page = http.post("/webhooks", data={**FORM, "csrf_token": token_of(http)}).text

    (made,) = notifications.list("local")
    assert (made.form, made.types, made.description) == ("slack", ("job.failed",), "Night watch")
    assert "whsec_" in page
    assert 'data-copy="secret"' in page
    assert "whsec_" not in http.get(f"/webhooks/{made.id}").text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "http://10.0.0.1/x"}, 'id="url-error"'),
        ({"types": []}, "Choose at least one."),
        ({"form": "fax"}, "One of"),
    ],
)
def test_a_wrong_choice_is_explained_and_nothing_typed_is_lost(
    http: TestClient, notifications: NotificationStore, change: dict[str, object], message: str
) -> None:
    response = http.post("/webhooks", data={**FORM, **change, "csrf_token": token_of(http)})

    assert response.status_code == 422
    assert message in response.text
    assert 'value="Night watch"' in response.text
    assert notifications.list("local") == []


def test_an_endpoint_is_changed_and_switched_off_and_on(
    http: TestClient, notifications: NotificationStore, endpoint: Endpoint
) -> None:
    token = token_of(http)

    http.post(f"/webhooks/{endpoint.id}", data={**FORM, "enabled": "off", "csrf_token": token})
    off = notifications.get(endpoint.id)
    http.post(f"/webhooks/{endpoint.id}", data={**FORM, "enabled": "on", "csrf_token": token})

    assert (off.enabled, off.form, off.description) == (False, "slack", "Night watch")
    assert notifications.get(endpoint.id).enabled


def test_a_secret_is_replaced_and_the_new_one_shown(
    http: TestClient, notifications: NotificationStore, endpoint: Endpoint, vault: CredentialVault
) -> None:
    page = http.post(f"/webhooks/{endpoint.id}/rotate", data={"csrf_token": token_of(http)}).text

    now = datetime.now(UTC)
    newest, old = open_secrets(notifications.secrets(endpoint.id), vault, now=now)
    assert newest in page
    assert old not in page


def test_a_message_tells_every_try_what_came_back_and_when_the_next_is(
    http: TestClient, notifications: NotificationStore, endpoint: Endpoint
) -> None:
    message = send_trial(endpoint.id, owner="local", store=notifications)
    due = datetime(2999, 1, 2, 3, 4, tzinfo=UTC)
    tries = [
        Attempt(delivery_id=message.id, number=1, at=due, status=503, seconds=0.5),
        Attempt(delivery_id=message.id, number=2, at=due, error="it did not answer", seconds=15.0),
    ]
    for one in tries:
        notifications.record(message.model_copy(update={"due_at": due}), one)

    page = http.get(f"/webhooks/{endpoint.id}/deliveries/{message.id}").text
    listed = http.get(f"/webhooks/{endpoint.id}").text

    assert "Status 503" in page
    assert "It did not answer." in page
    assert "Next try 2999-01-02 03:04 UTC." in page
    assert "endpoint.test" in page
    assert "it did not answer" in listed


def test_a_message_is_sent_again(http: TestClient, notifications: NotificationStore, endpoint: Endpoint) -> None:
    message = send_trial(endpoint.id, owner="local", store=notifications)
    gone = message.model_copy(update={"state": DeliveryState.FAILED})
    notifications.record(gone, Attempt(delivery_id=message.id, number=1, at=message.created_at, status=500, seconds=1))

    path = f"/webhooks/{endpoint.id}/deliveries/{message.id}"
    response = http.post(f"{path}/resend", data={"csrf_token": token_of(http)}, follow_redirects=False)

    assert response.headers["location"] == path
    assert notifications.delivery(endpoint.id, message.id).state is DeliveryState.PENDING


def test_older_messages_are_on_the_next_page(
    http: TestClient, notifications: NotificationStore, endpoint: Endpoint
) -> None:
    messages = [send_trial(endpoint.id, owner="local", store=notifications) for _ in range(26)]

    first, second = (http.get(f"/webhooks/{endpoint.id}", params={"page": page}).text for page in (1, 2))

    assert messages[0].id not in first
    assert messages[0].id in second
    assert messages[-1].id not in second
    assert re.search(r'rel="next" href="[^"]+page=2"', first)
    assert 'rel="next"' not in second


@pytest.mark.parametrize("action", ["", "/test", "/rotate", "/delete"])
def test_nothing_happens_to_an_endpoint_of_somebody_else(
    http: TestClient, notifications: NotificationStore, vault: CredentialVault, action: str
) -> None:
    theirs = create_endpoint(EndpointRules(url=ADDRESS), owner="somebody", store=notifications, vault=vault).endpoint
    secrets = notifications.secrets(theirs.id)

    response = http.post(f"/webhooks/{theirs.id}{action}", data={**FORM, "csrf_token": token_of(http)})

    assert response.status_code == 404
    assert notifications.get(theirs.id) == theirs
    assert notifications.secrets(theirs.id) == secrets
    assert notifications.deliveries(theirs.id) == []


@pytest.mark.parametrize("action", ["", "/test", "/rotate", "/delete"])
def test_changing_an_endpoint_needs_the_token(
    http: TestClient, notifications: NotificationStore, endpoint: Endpoint, action: str
) -> None:
    token_of(http)

    assert http.post(f"/webhooks/{endpoint.id}{action}", data={**FORM, "csrf_token": "0" * 64}).status_code == 403
    assert notifications.get(endpoint.id) == endpoint
