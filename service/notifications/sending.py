"""One try of one message: signed, to the address that was checked, without following anywhere."""

import smtplib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import unquote, urlsplit

import httpx2
import structlog
from standardwebhooks import Webhook

from service.notifications.address import Resolve, check_target
from service.notifications.errors import UnsafeAddressError
from service.notifications.messages import body, mail, slack_body
from service.notifications.schema import Delivery, Endpoint

_log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 15.0
_MAX_ERROR = 400
NO_ANSWER = (
    "the receiver gave no valid answer; check its address, its certificate and that it answers within 15 seconds"
)
_ACCEPTED = 200
"""A mail the server took counts as an answer of this status."""


@dataclass(frozen=True)
class Outcome:
    """What came back: a status, or why none did."""

    status: int | None
    error: str | None
    seconds: float

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took it. A redirect is no: signed bodies are not sent elsewhere."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver says that it wants nothing any more."""
        return self.status == 410


class Send(Protocol):
    """Tries a message once. Raises nothing: a failure is an outcome."""

    def __call__(self, endpoint: Endpoint, delivery: Delivery, secrets: Sequence[str], now: datetime) -> Outcome:
        """Send to where the endpoint says."""


class Sender:
    """Sends over HTTPS and, if a mail server is given, by mail."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        mail_server: str | None = None,
        mail_from: str = "srr@localhost",
        resolve: Resolve | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Build a sender.

        Args:
            allow_private: Also send into private networks, and by plain http; for receivers inside.
            mail_server: host or host:port of an SMTP server that takes mail from here.
            transport: Stands in for the network in tests.
        """
        self._allow_private = allow_private
        self._mail_server = mail_server
        self._mail_from = mail_from
        self._resolve = resolve
        self._transport = transport

    def __call__(self, endpoint: Endpoint, delivery: Delivery, secrets: Sequence[str], now: datetime) -> Outcome:
        """Send a message in the form of its endpoint."""
        if endpoint.form == "mail":
            return _timed(lambda: self._mail(endpoint, delivery), delivery)
        return _timed(lambda: self._webhook(endpoint, delivery, secrets, now), delivery)

    def _webhook(self, endpoint: Endpoint, delivery: Delivery, secrets: Sequence[str], now: datetime) -> int:
        if endpoint.form == "slack":
            return self._post(endpoint.url, slack_body(delivery.payload), {})
        text = body(delivery.payload)
        return self._post(endpoint.url, text, signature_headers(delivery.id, text, secrets, now))

    def _post(self, url: str, text: str, headers: Mapping[str, str]) -> int:
        target = check_target(url, resolve=self._resolve, allow_private=self._allow_private)
        sent = {**headers, "Host": target.host_header, "Content-Type": "application/json", "User-Agent": "srr-webhooks"}
        # The certificate is checked against the name, though the connection goes to the address. No proxy and no
        # credentials of ours: trust_env=False.
        with (
            httpx2.Client(
                timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, transport=self._transport
            ) as client,
            client.stream(
                "POST",
                target.url,
                content=text.encode(),
                headers=sent,
                extensions={"sni_hostname": target.host},
            ) as answer,
        ):
            return int(answer.status_code)

    def _mail(self, endpoint: Endpoint, delivery: Delivery) -> int:
        if self._mail_server is None:
            raise UnsafeAddressError("this installation has no mail server; set SERVICE_MAIL_SERVER")
        message = EmailMessage()
        message["Subject"], text = mail(delivery.payload)
        message["From"], message["To"] = self._mail_from, unquote(urlsplit(endpoint.url).path)
        message["Message-ID"] = f"<{delivery.id}@srr>"
        message.set_content(text)
        host, _, port = self._mail_server.partition(":")
        with smtplib.SMTP(host, int(port or 25), timeout=TIMEOUT_SECONDS) as server:
            server.send_message(message)
        return _ACCEPTED


def signature_headers(message_id: str, text: str, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """Return the headers of Standard Webhooks, one signature for each secret while one is being replaced."""
    signatures = [Webhook(secret).sign(message_id, now, text) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _timed(send: Callable[[], int], delivery: Delivery) -> Outcome:
    began = time.perf_counter()
    status: int | None = None
    error: str | None = None
    try:
        status = send()
        error = None if 200 <= status < 300 else f"answered {status}"
    except UnsafeAddressError as refused:
        error = str(refused)
    except (httpx2.HTTPError, smtplib.SMTPException, OSError) as failed:
        # Refused, timed out and a certificate of somebody else read alike, or an owner could map a network with them.
        _log.info("delivery_try_unanswered", delivery_id=delivery.id, reason=f"{type(failed).__name__}: {failed}")
        error = NO_ANSWER
    except Exception as unforeseen:  # noqa: BLE001  # the edge to strangers' servers: whatever they cause is a failed try
        _log.error("delivery_try_broke", delivery_id=delivery.id, exc_info=unforeseen)
        error = NO_ANSWER
    # PostgreSQL's text refuses NUL characters.
    said = None if error is None else error.replace("\x00", "?")[:_MAX_ERROR]
    return Outcome(status, said, round(time.perf_counter() - began, 3))
