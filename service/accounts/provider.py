"""The OpenID provider of the Hub: authorization code flow with PKCE, over authlib.

Four addresses are asked: the metadata (kept for an hour), then per sign-in the token, the keys and the userinfo. Every
call has a time limit, follows no redirect and ignores proxies and netrc files of the environment, so that neither
client secret nor code goes anywhere but to the configured Hub.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client

from service.accounts.errors import ProviderRefusedError, ProviderUnavailableError, SignInError
from service.accounts.identity import identity_of, proven_subject
from service.accounts.pending import PendingSignIn
from service.accounts.schema import Identity

T = TypeVar("T")

METADATA_PATH = "/.well-known/openid-configuration"
_METADATA_SECONDS = 3600.0
_CONNECT_SECONDS, _READ_SECONDS = 5.0, 10.0
"""Somebody waits in front of an empty page."""
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
_DEFAULT_LIFETIME_SECONDS = 8 * 3600
"""When the provider does not say: what the Hub gives access for unless an application asks for longer."""
_MAX_LIFETIME_SECONDS = 90 * 24 * 3600
_TELL = "tell whoever runs this service"


@dataclass(frozen=True)
class SignedIn:
    """What a completed sign-in gives."""

    identity: Identity
    access_token: str = field(repr=False)
    lifetime: timedelta


class OpenIDProvider:
    """The Hub as the place where people prove who they are. Safe for threads; keeps no secret of anybody."""

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        client_secret: str | None,
        scope: str,
        redirect_uri: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe this service to the provider.

        Args:
            issuer: Address of the Hub; its metadata must name the same.
            client_secret: None for a public application, which PKCE alone protects.
            redirect_uri: Where the provider sends people back to, exactly as registered with it.
        """
        self._issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = scope
        self._redirect_uri = redirect_uri
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[float, Mapping[str, str]] | None = None

    def authorization_url(self, pending: PendingSignIn) -> str:
        """Return the address to send a browser to. Raises ProviderUnavailableError, ProviderRefusedError."""
        endpoint = self._metadata()["authorization_endpoint"]
        with self._client() as client:
            url, _ = client.create_authorization_url(
                endpoint, state=pending.state, nonce=pending.nonce, code_verifier=pending.code_verifier
            )
        return str(url)

    def complete(self, code: str, pending: PendingSignIn) -> SignedIn:
        """Exchange a code for an access token and find out whose it is.

        Raises:
            SignInError: the provider does not answer, refuses, or does not prove what it says.
        """
        metadata = self._metadata()
        with self._client() as client:
            token = _ask(
                lambda: client.fetch_token(
                    metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=pending.code_verifier,
                )
            )
            access_token, id_token = str(token.get("access_token") or ""), str(token.get("id_token") or "")
            if not access_token or not id_token:
                raise ProviderRefusedError(f"Hugging Face sent no identity; {_TELL}.")
            keys = _ask(lambda: _read_json(client, metadata["jwks_uri"]))
            subject = proven_subject(
                id_token,
                keys,
                issuer=metadata["issuer"],
                client_id=self._client_id,
                nonce=pending.nonce,
                access_token=access_token,
            )
            userinfo = _ask(lambda: _read_json(client, metadata["userinfo_endpoint"], access_token))
        return SignedIn(identity_of(subject, userinfo), access_token, _lifetime(token))

    def _metadata(self) -> Mapping[str, str]:
        with self._lock:
            if self._known is not None and self._clock() - self._known[0] < _METADATA_SECONDS:
                return self._known[1]
        with self._client() as client:
            found = _ask(lambda: _read_json(client, self._issuer + METADATA_PATH))
        # OpenID Connect Discovery 4.3: metadata that name another issuer speak for somebody else.
        if str(found.get("issuer", "")).rstrip("/") != self._issuer:
            raise ProviderRefusedError(f"The sign-in of {self._issuer} belongs to another issuer; {_TELL}.")
        if not all(isinstance(found.get(name), str) for name in _ENDPOINTS):
            raise ProviderRefusedError(f"{self._issuer} offers no complete OpenID sign-in; {_TELL}.")
        with self._lock:
            self._known = (self._clock(), found)
        return found

    def _client(self) -> OAuth2Client:
        return OAuth2Client(
            client_id=self._client_id,
            client_secret=self._client_secret,
            scope=self._scope,
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            timeout=httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )


def _read_json(client: OAuth2Client, url: str, access_token: str | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
    answer = client.request("GET", url, headers={"Accept": "application/json", **headers}, withhold_token=True)
    answer.raise_for_status()
    content = answer.json()
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _ask(call: Callable[[], T]) -> T:
    """Run a call to the provider; its failures become ours, which hold no request and so no secret."""
    failure: SignInError
    try:
        return call()
    except OAuthError as error:
        reason = str(error.error)[:60]
        failure = ProviderRefusedError(f"Hugging Face refused this sign-in ({reason}). Sign in again, or {_TELL}.")
    except httpx2.HTTPStatusError as error:
        failure = _by_status(error.response.status_code)
    except httpx2.HTTPError:
        failure = ProviderUnavailableError("Hugging Face could not be reached. Try again in a while.")
    except (ValueError, TypeError, httpx2.InvalidURL):
        failure = ProviderRefusedError(f"Hugging Face sent an answer that makes no sense; {_TELL}.")
    raise failure


def _by_status(status: int) -> SignInError:
    if status >= httpx2.codes.INTERNAL_SERVER_ERROR or status == httpx2.codes.TOO_MANY_REQUESTS:
        return ProviderUnavailableError(f"Hugging Face has trouble (it answered {status}). Try again in a while.")
    return ProviderRefusedError(f"Hugging Face refused this sign-in (it answered {status}); {_TELL}.")


def _lifetime(token: Mapping[str, Any]) -> timedelta:
    seconds = token.get("expires_in")
    if not isinstance(seconds, int | float):
        seconds = _DEFAULT_LIFETIME_SECONDS
    return timedelta(seconds=min(max(seconds, 0), _MAX_LIFETIME_SECONDS))
