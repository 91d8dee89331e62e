"""Signing in with an account, from leaving for the provider to coming back as somebody."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from service.accounts.access import HubAccess
from service.accounts.admission import Admission
from service.accounts.errors import (
    ConsentDeniedError,
    ProviderRefusedError,
    ProviderUnavailableError,
    SignInError,
)
from service.accounts.pending import PendingSignIn, PendingSignIns
from service.accounts.provider import OpenIDProvider
from service.accounts.schema import Account
from service.platform.clock import utc_now

_ERROR_CODE = re.compile(r"[a-z_]{1,40}")
_TEMPORARY = frozenset({"server_error", "temporarily_unavailable"})


@dataclass(frozen=True)
class Departure:
    """Where to send a browser, and the cookie it must bring back."""

    url: str
    cookie: str = field(repr=False)


@dataclass(frozen=True)
class ProviderAnswer:
    """What the browser brings back from the provider in its query; anybody can write such a query."""

    state: str
    code: str = field(repr=False)
    error: str


@dataclass(frozen=True)
class Arrival:
    """Somebody who has signed in, what they let us do at the Hub, and the path they wanted to see."""

    account: Account
    access: HubAccess
    following: str


class AccountSignIn:
    """The use case. Nothing of a sign-in is kept here between its two ends."""

    def __init__(
        self,
        provider: OpenIDProvider,
        pending: PendingSignIns,
        admission: Admission,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._provider = provider
        self._pending = pending
        self._admission = admission
        self._clock = clock

    def begin(self, following: str) -> Departure:
        """Start a sign-in that ends at a path of ours. Raises ProviderUnavailableError, ProviderRefusedError."""
        pending = PendingSignIn.begin(following)
        return Departure(self._provider.authorization_url(pending), self._pending.write(pending))

    def finish(self, answer: ProviderAnswer, cookie: str) -> Arrival:
        """Complete a sign-in.

        Raises:
            SignInError: and nobody is signed in.
        """
        # First of all: until the state fits, nothing in the query is worth a look, not even its error.
        pending = self._pending.read(cookie, state=answer.state)
        if answer.error or not answer.code:
            raise _refusal(answer.error)
        signed_in = self._provider.complete(answer.code, pending)
        account = self._admission.admit(signed_in.identity)
        access = HubAccess.granted(
            signed_in.access_token, owner=account.owner, lifetime=signed_in.lifetime, now=self._clock()
        )
        return Arrival(account, access, pending.following)


def _refusal(error: str) -> SignInError:
    if error == "access_denied":
        return ConsentDeniedError("You did not allow this at Hugging Face, so nobody was signed in.")
    if error in _TEMPORARY:
        return ProviderUnavailableError("Hugging Face has trouble signing people in. Try again in a while.")
    reason = error if _ERROR_CODE.fullmatch(error) else "no known reason"
    return ProviderRefusedError(f"Hugging Face refused this sign-in ({reason}); tell whoever runs this service.")
