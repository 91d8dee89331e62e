"""One try of a message, over a real connection: signed, checked and never redirected."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.notifications.delivering import DeliveryContext, send_messages, write_messages
from service.notifications.endpoints import (
    create_endpoint,
)
from service.notifications.messages import job_payload, mail, slack_body
from service.notifications.schema import EndpointRules, NewEndpoint
from service.notifications.sending import NO_ANSWER, Sender
from tests.service.notifications.conftest import Office


class Receiver:
    """A web server on loopback that keeps what it is sent."""

    def __init__(self, status: int = 204) -> None:
        received: list[tuple[dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                received.append((dict(self.headers.items()), self.rfile.read(length)))
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.received = received
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    receivers: list[Receiver] = []

    def start(status: int = 204) -> Receiver:
        receivers.append(Receiver(status))
        return receivers[-1]

    yield start
    for receiver in receivers:
        receiver.server.shutdown()
        receiver.server.server_close()


def real_context(office: Office) -> DeliveryContext:
    sender = Sender(allow_private=True)
    return DeliveryContext(office.store, office.vault, sender, "https://srr.example", clock=lambda: office.now)


def inside(office: Office, url: str, **rules: Any) -> NewEndpoint:
    return create_endpoint(
        EndpointRules(url=url, **rules), owner="alice", store=office.store, vault=office.vault, allow_private=True
    )


def test_receiver_verifies_what_it_gets(office: Office, receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    made = inside(office, receiver.url)
    job = office.run_job()
    write_messages(office.context)

    assert send_messages(real_context(office)) == 1

    headers, text = receiver.received[0]
    verified = Webhook(made.secret).verify(text, headers)
    assert verified["data"]["job_id"] == job.id
    assert len(text) < 20_000
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(text, headers)


def test_redirect_is_a_failure_and_not_followed(office: Office, receive: Callable[..., Receiver]) -> None:
    receiver = receive(302)
    endpoint = inside(office, receiver.url).endpoint
    office.run_job()
    write_messages(office.context)

    assert send_messages(real_context(office)) == 0

    (delivery,) = office.store.deliveries(endpoint.id)
    assert [attempt.status for attempt in office.store.attempts(delivery.id)] == [302]
    assert len(receiver.received) == 1


def test_private_address_is_refused_again_at_the_moment_of_sending(office: Office) -> None:
    made = office.endpoint()
    office.run_job()
    write_messages(office.context)
    sender = Sender(resolve=lambda host, port: ["127.0.0.1"])  # the name has been pointed inside since

    send_messages(DeliveryContext(office.store, office.vault, sender, "https://srr.example", clock=lambda: office.now))

    (delivery,) = office.store.deliveries(made.endpoint.id)
    (attempt,) = office.store.attempts(delivery.id)
    assert attempt.status is None
    assert "not on the public internet" in str(attempt.error)


def test_slack_and_mail_tell_the_same_without_markup_of_strangers(
    office: Office, receive: Callable[..., Receiver]
) -> None:
    receiver = receive(200)
    inside(office, receiver.url, form="slack")
    job = office.run_job(fails=True)
    write_messages(office.context)
    send_messages(real_context(office))

    text = json.loads(receiver.received[0][1])["text"]
    assert "webhook-signature" not in receiver.received[0][0]
    assert "<!channel>" not in text
    assert f"<https://srr.example/jobs/{job.id}|acme/model>" in text
    payload = job_payload(job, state="failed", at=office.now, base_url="https://srr.example")
    subject, words = mail(payload)
    assert subject == "SRR: acme/model failed"
    assert f"https://srr.example/jobs/{job.id}" in words
    assert "gated_model" in words


def test_only_slack_gets_the_escapes_of_slack(office: Office) -> None:
    payload = job_payload(office.run_job(fails=True), state="failed", at=office.now, base_url="https://srr.example")

    assert "Accept &lt;!channel&gt;" in slack_body(payload)
    assert "Accept <!channel>" in mail(payload)[1]


def test_url_that_the_client_refuses_is_a_failed_try(office: Office) -> None:
    made = office.endpoint()
    old = made.endpoint.model_copy(update={"url": "https://example.org/a\x01b"})  # from before such URLs were refused
    office.store.replace_rules(old.id, old, forgive=False)
    office.run_job()
    write_messages(office.context)
    sender = Sender(resolve=lambda host, port: ["93.184.215.14"])

    send_messages(DeliveryContext(office.store, office.vault, sender, "https://srr.example", clock=lambda: office.now))

    (delivery,) = office.store.deliveries(made.endpoint.id)
    (attempt,) = office.store.attempts(delivery.id)
    assert (attempt.status, delivery.attempts) == (None, 1)
    assert delivery.due_at > office.now


class Faulty(httpx2.BaseTransport):
    """A network that fails in a way nobody has foreseen."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        raise ValueError("unforeseen \x00")


def test_failure_nobody_has_foreseen_is_a_failed_try(office: Office) -> None:
    made = office.endpoint()
    office.run_job()
    write_messages(office.context)
    sender = Sender(resolve=lambda host, port: ["93.184.215.14"], transport=Faulty())

    send_messages(DeliveryContext(office.store, office.vault, sender, "https://srr.example", clock=lambda: office.now))

    (delivery,) = office.store.deliveries(made.endpoint.id)
    (attempt,) = office.store.attempts(delivery.id)
    assert attempt.error == NO_ANSWER
    assert delivery.due_at > office.now


@pytest.mark.parametrize(
    "failure",
    [httpx2.ConnectError("refused"), httpx2.ConnectTimeout("slow"), httpx2.ConnectError("CERTIFICATE_VERIFY_FAILED")],
)
def test_what_kept_a_receiver_from_answering_is_not_told(office: Office, failure: httpx2.HTTPError) -> None:
    made = office.endpoint()
    office.run_job()
    write_messages(office.context)

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise failure

    sender = Sender(resolve=lambda host, port: ["93.184.215.14"], transport=httpx2.MockTransport(refuse))
    send_messages(DeliveryContext(office.store, office.vault, sender, "https://srr.example", clock=lambda: office.now))

    (delivery,) = office.store.deliveries(made.endpoint.id)
    (attempt,) = office.store.attempts(delivery.id)
    assert attempt.error == NO_ANSWER
