"""Making endpoints, replacing their secrets, and sending again by hand."""

import base64
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from email.utils import parseaddr
from urllib.parse import unquote, urlsplit

from service.jobs.credentials import CredentialVault
from service.jobs.schema import SealedSecret
from service.notifications.address import Resolve, check_target
from service.notifications.errors import InvalidEndpointError
from service.notifications.messages import message_to, trial_payload
from service.notifications.schema import Delivery, Endpoint, EndpointRules, NewEndpoint
from service.notifications.store import NotificationStore
from service.platform.clock import utc_now
from service.platform.ids import new_id

_SECRET_BYTES = 32
"""Standard Webhooks asks for 24 to 64 random bytes."""
ROTATION = timedelta(hours=24)
"""How long a replaced secret still signs beside the new one."""
_FOREVER = timedelta(days=365 * 100)


def create_endpoint(
    rules: EndpointRules,
    *,
    owner: str,
    store: NotificationStore,
    vault: CredentialVault,
    allow_private: bool = False,
    mail_server: str | None = None,
    resolve: Resolve | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> NewEndpoint:
    """Store an endpoint and return it with its secret, which cannot be shown again.

    Args:
        mail_server: Of this installation; without one, nobody can be told by mail.

    Raises:
        InvalidEndpointError: the URL does not fit the form, or this installation sends no mails.
        UnsafeAddressError: it leads into our own network, or is not https.
    """
    _check(rules, allow_private, mail_server, resolve)
    endpoint = Endpoint(**dict(rules), id=new_id("endpoint"), owner=owner, created_at=clock())
    secret = _new_secret()
    store.add(endpoint, sealed_secrets=[_seal(secret, vault, clock() + _FOREVER)])
    return NewEndpoint(endpoint=endpoint, secret=secret)


def change_endpoint(
    endpoint_id: str,
    rules: EndpointRules,
    *,
    owner: str | None,
    store: NotificationStore,
    allow_private: bool = False,
    mail_server: str | None = None,
    resolve: Resolve | None = None,
) -> Endpoint:
    """Replace the rules of an endpoint; switching it on, or another URL, forgets earlier failures.

    Raises:
        EndpointNotFoundError, InvalidEndpointError, UnsafeAddressError: as their names say.
    """
    before = store.get(endpoint_id, owner=owner)
    _check(rules, allow_private, mail_server, resolve)
    forgive = rules.enabled and (not before.enabled or rules.url != before.url)
    store.replace_rules(endpoint_id, rules, forgive=forgive)
    return store.get(endpoint_id, owner=owner)


def rotate_secret(
    endpoint_id: str,
    *,
    owner: str | None,
    store: NotificationStore,
    vault: CredentialVault,
    clock: Callable[[], datetime] = utc_now,
) -> str:
    """Return a new secret; for a day, messages carry a signature of the old one too. Raises EndpointNotFoundError."""
    store.get(endpoint_id, owner=owner)
    now = clock()
    secret = _new_secret()
    old = open_secrets(store.secrets(endpoint_id), vault, now=now)[:1]
    kept = [_seal(text, vault, now + ROTATION) for text in old]
    store.replace_secrets(endpoint_id, [_seal(secret, vault, now + _FOREVER), *kept])
    return secret


def resend_delivery(
    endpoint_id: str,
    delivery_id: str,
    *,
    owner: str | None,
    store: NotificationStore,
    clock: Callable[[], datetime] = utc_now,
) -> Delivery:
    """Make a message due now, whatever became of it; to an endpoint that is off it waits.

    Raises:
        EndpointNotFoundError, DeliveryNotFoundError: as their names say.
    """
    store.get(endpoint_id, owner=owner)
    store.resend(store.delivery(endpoint_id, delivery_id), now=clock())
    return store.delivery(endpoint_id, delivery_id)


def send_trial(
    endpoint_id: str, *, owner: str | None, store: NotificationStore, clock: Callable[[], datetime] = utc_now
) -> Delivery:
    """Queue a message that only tests the endpoint; if that is off, it waits. Raises EndpointNotFoundError."""
    endpoint, now = store.get(endpoint_id, owner=owner), clock()
    message = message_to(endpoint.id, trial_payload(at=now), now=now)
    store.add_delivery(message)
    return message


def open_secrets(sealed: Sequence[str], vault: CredentialVault, *, now: datetime) -> list[str]:
    """Return the secrets that still sign, newest first."""
    parts = (entry.split("|", maxsplit=1) for entry in sealed)
    alive = [(datetime.fromisoformat(until), text) for until, text in parts]
    return [
        vault.open(SealedSecret(ciphertext=text.encode(), expires_at=now + _FOREVER))
        for until, text in alive
        if until > now
    ]


def _seal(secret: str, vault: CredentialVault, until: datetime) -> str:
    return f"{until.isoformat()}|{vault.seal(secret).ciphertext.decode()}"


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def _check(rules: EndpointRules, allow_private: bool, mail_server: str | None, resolve: Resolve | None) -> None:
    if rules.form != "mail":
        check_target(rules.url, resolve=resolve, allow_private=allow_private)
        return
    parts = urlsplit(rules.url)
    address = unquote(parts.path)
    if parts.scheme != "mailto" or parts.query or parseaddr(address)[1] != address or "@" not in address:
        raise InvalidEndpointError("a mail endpoint is mailto: and one address, like mailto:name@example.org")
    if any(character.isspace() or not character.isprintable() for character in rules.url + address):
        raise InvalidEndpointError("the mail address holds a space or a control character; leave it out")
    if mail_server is None:
        raise InvalidEndpointError(
            "this installation sends no mails; use a webhook, or ask its operator to set SERVICE_MAIL_SERVER"
        )
