"""Webhook endpoints, deliveries and metrics over REST."""

import pytest
from fastapi.testclient import TestClient

from service.notifications.schema import DeliveryState
from service.notifications.store import NotificationStore

RULES = {"url": "https://93.184.216.34/hook", "types": ["job.succeeded"], "description": "ours"}
PATH = "/v1/webhook-endpoints"


def made(http: TestClient) -> str:
    """Make an endpoint and return its path."""
    return f"{PATH}/{http.post(PATH, json=RULES).json()['endpoint']['id']}"


def test_an_endpoint_is_made_changed_and_deleted_and_its_secret_shown_once(http: TestClient) -> None:
    answer = http.post(PATH, json=RULES)
    path = f"{PATH}/{answer.json()['endpoint']['id']}"
    secret = answer.json()["secret"]
    listed = http.get(PATH)
    looked_at = http.get(path)
    changed = http.put(path, json={**RULES, "enabled": False})
    deleted = http.delete(path)

    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert secret.startswith("whsec_")
    assert secret not in listed.text + looked_at.text
    assert (looked_at.status_code, looked_at.json()) == (200, listed.json()["endpoints"][0])
    assert changed.json()["enabled"] is False
    assert deleted.status_code == 204
    assert http.get(PATH).json() == {"endpoints": []}


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x",
        "https://93.184.216.34/a\x00b",
        "https://93.184.216.34/a b",
        "https://10.0.0.8/x",
        "http://93.184.216.34/x",
        "https://[::ffff:169.254.169.254]/x",
    ],
)
def test_an_address_inside_our_network_is_refused(http: TestClient, url: str) -> None:
    answer = http.post(PATH, json={**RULES, "url": url})

    assert (answer.status_code, answer.json()["code"]) == (422, "unsafe_address")


def test_mails_are_refused_where_nothing_can_send_them(http: TestClient) -> None:
    answer = http.post(PATH, json={"url": "mailto:name@example.org", "form": "mail"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_endpoint")
    assert "SERVICE_MAIL_SERVER" in answer.json()["detail"]


def test_a_rotated_secret_is_another_one(http: TestClient) -> None:
    first = http.post(PATH, json=RULES).json()
    second = http.post(f"{PATH}/{first['endpoint']['id']}/rotate").json()

    assert second["secret"] != first["secret"]


def test_a_trial_message_is_listed_and_can_be_sent_again(http: TestClient, notifications: NotificationStore) -> None:
    path = made(http)
    message = http.post(f"{path}/test").json()
    detail = http.get(f"{path}/deliveries/{message['id']}").json()
    again = http.post(f"{path}/deliveries/{message['id']}/resend")

    assert [one["id"] for one in http.get(f"{path}/deliveries").json()["deliveries"]] == [message["id"]]
    assert (detail["delivery"]["type"], detail["attempts"]) == ("endpoint.test", [])
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    assert notifications.counts()[DeliveryState.PENDING] == 1


def test_an_unknown_endpoint_and_delivery_are_not_found(http: TestClient) -> None:
    path = made(http)
    nobody = http.get(f"{PATH}/endpoint_{'0' * 26}/deliveries")
    nothing = http.get(f"{path}/deliveries/msg_{'0' * 26}")
    none = http.get(f"{PATH}/endpoint_{'0' * 26}")

    assert (nobody.status_code, nobody.json()["code"]) == (404, "endpoint_not_found")
    assert (none.status_code, none.json()["code"]) == (404, "endpoint_not_found")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "delivery_not_found")


def test_the_metrics_are_there_for_prometheus(http: TestClient) -> None:
    made(http)

    text = http.get("/metrics").text

    assert 'srr_up{part="database"} 1.0' in text
    assert 'srr_jobs{state="queued"} 0.0' in text
    assert 'srr_webhook_deliveries{state="failed"} 0.0' in text
