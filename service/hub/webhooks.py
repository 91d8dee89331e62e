"""The webhooks a Hub sends us: listed, created and repaired, so that the watches and the Hub agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from huggingface_hub import WebhookInfo, WebhookWatchedItem

from service.hub.client import HubClient
from service.hub.translation import Subject

SyncAction = Literal["created", "updated", "enabled", "unchanged"]


@dataclass(frozen=True, order=True)
class Watched:
    """One thing a webhook watches: a model, or everything of an owner."""

    kind: Literal["model", "user", "org"]
    name: str


@dataclass(frozen=True)
class HubWebhook:
    """A webhook as the Hub has it. Its secret is never read back into our hands."""

    id: str
    url: str | None
    watched: frozenset[Watched]
    disabled: bool


class HubWebhooks(Protocol):
    """The webhooks of the owner of a token. Every call raises HubError only."""

    def list(self, *, token: str) -> Sequence[HubWebhook]:
        """Return all of them, also those that are not ours."""

    def create(self, url: str, watched: frozenset[Watched], *, secret: str, token: str) -> HubWebhook:
        """Create a webhook for changes of repositories."""

    def update(self, webhook_id: str, url: str, watched: frozenset[Watched], *, secret: str, token: str) -> HubWebhook:
        """Change what it watches and the secret it sends."""

    def enable(self, webhook_id: str, *, token: str) -> HubWebhook:
        """Switch on a webhook that the Hub suspended after failures, or that somebody switched off."""


def sync_webhook(
    webhooks: HubWebhooks,
    *,
    url: str,
    watched: frozenset[Watched],
    secret: str,
    token: str,
    replace_secret: bool = False,
) -> tuple[HubWebhook, SyncAction]:
    """Make the Hub have one working webhook to a URL that watches what it should; say what had to be done.

    Args:
        url: Ours alone, with the id of the hook in its path; it identifies the webhook on the Hub.
        replace_secret: Send the secret even when nothing else changed; a Hub does not tell which one it holds.
    """
    known = next((webhook for webhook in webhooks.list(token=token) if webhook.url == url), None)
    if known is None:
        return webhooks.create(url, watched, secret=secret, token=token), "created"
    action: SyncAction = "unchanged"
    if known.watched != watched or replace_secret:
        known, action = webhooks.update(known.id, url, watched, secret=secret, token=token), "updated"
    if known.disabled:
        known, action = webhooks.enable(known.id, token=token), "enabled"
    return known, action


class HuggingFaceWebhooks:
    """`HubWebhooks` over the Hub's HTTP interface. The token needs the `webhooks` scope."""

    def __init__(self, client: HubClient) -> None:
        self._client = client

    def list(self, *, token: str) -> Sequence[HubWebhook]:
        """Return all of them, also those that are not ours."""
        api = self._client.api
        return [_webhook(info) for info in self._client.ask(lambda: api.list_webhooks(token=token), _SUBJECT)]

    def create(self, url: str, watched: frozenset[Watched], *, secret: str, token: str) -> HubWebhook:
        """Create a webhook for changes of repositories. Not repeated after a lost answer: the next sync finds it."""
        api = self._client.api
        return _webhook(
            self._client.ask_once(
                lambda: api.create_webhook(
                    url=url, watched=_items(watched), domains=["repo"], secret=secret, token=token
                ),
                _SUBJECT,
            )
        )

    def update(self, webhook_id: str, url: str, watched: frozenset[Watched], *, secret: str, token: str) -> HubWebhook:
        """Change what it watches and the secret it sends."""
        api = self._client.api
        return _webhook(
            self._client.ask(
                lambda: api.update_webhook(
                    webhook_id, url=url, watched=_items(watched), domains=["repo"], secret=secret, token=token
                ),
                _SUBJECT,
            )
        )

    def enable(self, webhook_id: str, *, token: str) -> HubWebhook:
        """Switch on a webhook."""
        api = self._client.api
        return _webhook(self._client.ask(lambda: api.enable_webhook(webhook_id, token=token), _SUBJECT))


_SUBJECT = Subject("the webhooks of this account", writing=True)


def _items(watched: frozenset[Watched]) -> "list[dict[str, str] | WebhookWatchedItem]":
    return [WebhookWatchedItem(type=item.kind, name=item.name) for item in sorted(watched)]


def _webhook(info: WebhookInfo) -> HubWebhook:
    watched = frozenset(Watched(item.type, item.name) for item in info.watched if item.type in ("model", "user", "org"))
    return HubWebhook(id=info.id, url=info.url, watched=watched, disabled=info.disabled)
