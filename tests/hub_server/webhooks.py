"""Webhooks: who watches what, the payloads the Hub would send, and their delivery, good and bad.

Payloads follow the Hub's documentation of version 3 (2026-08), with the fields the client library's own model lacks.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.request import Request as HTTPRequest
from urllib.request import urlopen

from tests.hub_server.repositories import Repository


@dataclass(frozen=True)
class WebhookEvent:
    """One payload for one webhook, not sent yet."""

    webhook_id: str
    url: str
    secret: str | None
    payload: dict[str, Any]

    def with_secret(self, secret: str | None) -> "WebhookEvent":
        return replace(self, secret=secret)


@dataclass(frozen=True)
class Delivery:
    """How the receiver answered."""

    event: WebhookEvent
    status: int


@dataclass
class Webhooks:
    """Registered webhooks and the events waiting to be delivered, in order."""

    registered: dict[str, dict[str, Any]] = field(default_factory=dict)
    waiting: list[WebhookEvent] = field(default_factory=list)

    def register(self, settings: dict[str, Any]) -> dict[str, Any]:
        webhook = {"id": f"{len(self.registered) + 1:024x}", "disabled": False, "domains": ["repo"], **settings}
        self.registered[webhook["id"]] = webhook
        return webhook

    def content_changed(self, repository: Repository, ref: str, old: str | None, new: str | None) -> None:
        """Queue one event per webhook that watches the repository or its owner."""
        for webhook in self.registered.values():
            if not webhook["disabled"] and _watches(webhook["watched"], repository):
                payload = content_payload(webhook["id"], repository, [{"ref": ref, "oldSha": old, "newSha": new}])
                self.waiting.append(WebhookEvent(webhook["id"], webhook["url"], webhook.get("secret"), payload))

    def take(self) -> list[WebhookEvent]:
        """Return what waits, in order, and forget it: to be duplicated, reordered, changed or lost by the test."""
        taken, self.waiting = self.waiting, []
        return taken


def _watches(watched: Iterable[dict[str, str]], repository: Repository) -> bool:
    return any(row["name"] in (repository.repo_id, repository.owner) for row in watched)


def content_payload(webhook_id: str, repository: Repository, refs: list[dict[str, str | None]]) -> dict[str, Any]:
    return {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {
            "type": "model",
            "name": repository.repo_id,
            "id": f"id-{repository.repo_id}",
            "private": repository.private,
            "url": {
                "web": f"https://huggingface.co/{repository.repo_id}",
                "api": f"https://huggingface.co/api/models/{repository.repo_id}",
            },
            "owner": {"id": f"id-{repository.owner}"},
            "headSha": repository.branches.get("main"),
        },
        "webhook": {"id": webhook_id, "version": 3},
        "updatedRefs": refs,
    }


def deliver(events: Iterable[WebhookEvent]) -> list[Delivery]:
    """POST each event to its URL as the Hub does: the secret in clear in a header, no signature, no delivery id."""
    return [_deliver_one(event) for event in events]


def _deliver_one(event: WebhookEvent) -> Delivery:
    headers = {"Content-Type": "application/json"}
    if event.secret is not None:
        headers["X-Webhook-Secret"] = event.secret
    request = HTTPRequest(event.url, json.dumps(event.payload).encode(), headers, method="POST")
    try:
        with urlopen(request, timeout=10) as answer:
            return Delivery(event, answer.status)
    except OSError as error:
        return Delivery(event, getattr(error, "code", 0))
