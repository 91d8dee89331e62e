"""A sign-in that is under way: what a browser must bring back, in a signed cookie of its own."""

import secrets
from datetime import timedelta
from typing import Final

from itsdangerous import BadData, URLSafeTimedSerializer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.accounts.errors import SignInExpiredError, StateMismatchError

SIGN_IN_LIFETIME: Final = timedelta(minutes=10)
"""From leaving for the provider to coming back: enough to type a password and a second factor."""
_MAX_RETURN_PATH = 1000
_TRY_AGAIN = "Sign in again"


class PendingSignIn(BaseModel):
    """The secrets of one sign-in. `state` ties the answer to this browser, `nonce` the identity to this sign-in,
    and `code_verifier` (PKCE) the code to whoever asked for it.
    """

    model_config = ConfigDict(frozen=True)

    state: str = Field(repr=False)
    nonce: str = Field(repr=False)
    code_verifier: str = Field(repr=False)
    following: str
    """Path of ours to go to afterwards."""

    @classmethod
    def begin(cls, following: str) -> "PendingSignIn":
        """Return a new one with fresh secrets, 256 bits each."""
        return cls(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            code_verifier=secrets.token_urlsafe(32),
            following=following if len(following) <= _MAX_RETURN_PATH else "/",
        )


class PendingSignIns:
    """Signs and reads the cookies. Nothing is stored, so that any process may finish what another began."""

    def __init__(self, secret: str | bytes) -> None:
        self._serializer = URLSafeTimedSerializer(secret, salt="srr.sign-in")

    def write(self, pending: PendingSignIn) -> str:
        """Return the cookie of a sign-in."""
        return str(self._serializer.dumps(pending.model_dump()))

    def read(self, cookie: str, *, state: str) -> PendingSignIn:
        """Return the sign-in that an answer with this state belongs to.

        Raises:
            SignInExpiredError: the cookie is missing, forged or too old.
            StateMismatchError: the answer is to another sign-in.
        """
        try:
            content = self._serializer.loads(cookie, max_age=int(SIGN_IN_LIFETIME.total_seconds()))
            pending = PendingSignIn.model_validate(content)
        except (BadData, ValidationError):
            raise SignInExpiredError(
                f"This sign-in took too long, or the browser keeps no cookies. {_TRY_AGAIN}."
            ) from None
        if not secrets.compare_digest(pending.state.encode(), state.encode()):
            raise StateMismatchError(
                f"This answer belongs to a sign-in from elsewhere or in another tab. {_TRY_AGAIN}."
            )
        return pending
