"""Webhooks on the Hub agree with what we want, and the Hub's deliveries are what it documents."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from service.hub.client import HubClient
from service.hub.errors import HubUnavailableError, InvalidTokenError
from service.hub.webhooks import HuggingFaceWebhooks, Watched, sync_webhook
from tests.hub_server import Failure, HubServer

URL = "https://compress.example/v1/hooks/huggingface/hook_1"
ACME = frozenset({Watched("org", "acme")})
FILES = {"config.json": b"{}", "model.safetensors": b"x"}


@pytest.fixture
def webhooks(hub_server: HubServer) -> HuggingFaceWebhooks:
    return HuggingFaceWebhooks(HubClient(hub_server.url, attempts=1))


def test_a_missing_webhook_is_created(webhooks: HuggingFaceWebhooks, hub_server: HubServer) -> None:
    made, action = sync_webhook(webhooks, url=URL, watched=ACME, secret="s3cret", token="hf_alice")

    assert action == "created"
    assert webhooks.list(token="hf_alice") == [made]
    stored = hub_server.state.webhooks.registered[made.id]
    assert (stored["url"], stored["secret"], stored["domains"]) == (URL, "s3cret", ["repo"])


def test_a_second_sync_changes_nothing(webhooks: HuggingFaceWebhooks, hub_server: HubServer) -> None:
    first, _ = sync_webhook(webhooks, url=URL, watched=ACME, secret="s3cret", token="hf_alice")
    before = len(hub_server.requests)

    again, action = sync_webhook(webhooks, url=URL, watched=ACME, secret="s3cret", token="hf_alice")

    assert (again, action) == (first, "unchanged")
    assert [request.method for request in hub_server.requests[before:]] == ["GET"]


def test_what_is_watched_is_repaired(webhooks: HuggingFaceWebhooks) -> None:
    first, _ = sync_webhook(webhooks, url=URL, watched=ACME, secret="s3cret", token="hf_alice")
    more = ACME | {Watched("model", "bob/base")}

    again, action = sync_webhook(webhooks, url=URL, watched=more, secret="s3cret", token="hf_alice")

    assert (again.id, again.watched, action) == (first.id, more, "updated")


def test_a_suspended_webhook_is_switched_on_again(webhooks: HuggingFaceWebhooks, hub_server: HubServer) -> None:
    first, _ = sync_webhook(webhooks, url=URL, watched=ACME, secret="s3cret", token="hf_alice")
    hub_server.state.webhooks.registered[first.id]["disabled"] = True

    again, action = sync_webhook(webhooks, url=URL, watched=ACME, secret="s3cret", token="hf_alice")

    assert (again.disabled, action) == (False, "enabled")


def test_a_secret_is_replaced_when_asked(webhooks: HuggingFaceWebhooks, hub_server: HubServer) -> None:
    first, _ = sync_webhook(webhooks, url=URL, watched=ACME, secret="old", token="hf_alice")

    sync_webhook(webhooks, url=URL, watched=ACME, secret="new", token="hf_alice", replace_secret=True)

    assert hub_server.state.webhooks.registered[first.id]["secret"] == "new"


def test_webhooks_of_others_are_left_alone(webhooks: HuggingFaceWebhooks) -> None:
    other = webhooks.create("https://other.example/", ACME, secret="x", token="hf_alice")

    sync_webhook(webhooks, url=URL, watched=frozenset(), secret="s3cret", token="hf_alice")

    assert other in webhooks.list(token="hf_alice")


def test_a_create_whose_answer_was_lost_is_found_by_the_next_sync(
    webhooks: HuggingFaceWebhooks, hub_server: HubServer
) -> None:
    hub_server.fail("webhooks", Failure.disconnect(after_handling=True))

    with pytest.raises(HubUnavailableError):
        webhooks.create(URL, ACME, secret="s3cret", token="hf_alice")
    _, action = sync_webhook(webhooks, url=URL, watched=ACME, secret="s3cret", token="hf_alice")

    assert action == "unchanged"
    assert len(hub_server.state.webhooks.registered) == 1


def test_a_token_nobody_knows_is_named(webhooks: HuggingFaceWebhooks) -> None:
    with pytest.raises(InvalidTokenError):
        webhooks.list(token="hf_stolen")


@dataclass
class Receiver:
    """A receiver that keeps what it gets and accepts one secret."""

    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            welcome = self.headers.get("X-Webhook-Secret") == "s3cret"
            if welcome:
                kept.received.append(json.loads(body))
            self.send_response(202 if welcome else 401)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield kept
        server.shutdown()
        thread.join()


def test_a_push_is_delivered_in_the_documented_form(
    webhooks: HuggingFaceWebhooks, hub_server: HubServer, receiver: Receiver
) -> None:
    made = webhooks.create(receiver.url, ACME, secret="s3cret", token="hf_alice")
    first = hub_server.add_model("acme/base", FILES)
    second = hub_server.push("acme/base", {"config.json": b'{"a": 1}'})
    hub_server.tag("acme/base", "v1.0")
    hub_server.add_model("bob/base", FILES)

    deliveries = hub_server.deliver()

    assert [delivery.status for delivery in deliveries] == [202, 202, 202]
    assert [payload["updatedRefs"] for payload in receiver.received] == [
        [{"ref": "refs/heads/main", "oldSha": None, "newSha": first.oid}],
        [{"ref": "refs/heads/main", "oldSha": first.oid, "newSha": second.oid}],
        [{"ref": "refs/tags/v1.0", "oldSha": None, "newSha": second.oid}],
    ]
    payload = receiver.received[0]
    assert payload["event"] == {"action": "update", "scope": "repo.content"}
    assert payload["webhook"] == {"id": made.id, "version": 3}
    assert payload["repo"]["name"] == "acme/base"


def test_deliveries_can_be_doubled_reordered_and_lost(
    webhooks: HuggingFaceWebhooks, hub_server: HubServer, receiver: Receiver
) -> None:
    webhooks.create(receiver.url, ACME, secret="s3cret", token="hf_alice")
    hub_server.add_model("acme/base", FILES)
    last = hub_server.push("acme/base", {"config.json": b'{"a": 1}'})
    first_event, last_event = hub_server.webhook_events()

    hub_server.deliver(last_event, last_event)

    shas = [payload["updatedRefs"][0]["newSha"] for payload in receiver.received]
    assert shas == [last.oid, last.oid]
    assert first_event.payload not in receiver.received
    assert hub_server.webhook_events() == []


@pytest.mark.parametrize("secret", [None, "", "wrong"])
def test_a_wrong_secret_is_sent_as_asked(
    webhooks: HuggingFaceWebhooks, hub_server: HubServer, receiver: Receiver, secret: str | None
) -> None:
    webhooks.create(receiver.url, ACME, secret="s3cret", token="hf_alice")
    hub_server.add_model("acme/base", FILES)
    (event,) = hub_server.webhook_events()

    (delivery,) = hub_server.deliver(event.with_secret(secret))

    assert delivery.status == 401
    assert receiver.received == []


def test_a_disabled_webhook_gets_nothing(webhooks: HuggingFaceWebhooks, hub_server: HubServer) -> None:
    made = webhooks.create("http://127.0.0.1:9/", ACME, secret="s3cret", token="hf_alice")
    hub_server.state.webhooks.registered[made.id]["disabled"] = True

    hub_server.add_model("acme/base", FILES)

    assert hub_server.webhook_events() == []


def test_a_receiver_that_is_down_is_noted(webhooks: HuggingFaceWebhooks, hub_server: HubServer) -> None:
    webhooks.create("http://127.0.0.1:9/", ACME, secret="s3cret", token="hf_alice")
    hub_server.add_model("acme/base", FILES)

    assert [delivery.status for delivery in hub_server.deliver()] == [0]
