"""The session of a browser: a signed cookie that says who has signed in."""

import secrets
from datetime import timedelta

from itsdangerous import BadData, URLSafeTimedSerializer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.accounts import Account

SESSION_COOKIE = "srr_session"
SESSION_LIFETIME = timedelta(hours=12)


class Session(BaseModel):
    """Who has signed in: the holder of a key, or an account of the Hub."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=lambda: secrets.token_urlsafe(16))
    """By which it is ended: a cookie that was copied does not outlive signing out."""
    key_id: str | None = None
    account: Account | None = None


class Sessions:
    """Signs and reads the cookies. Only their ends are stored: without one they last for twelve hours."""

    def __init__(self, secret: str | bytes) -> None:
        self._serializer = URLSafeTimedSerializer(secret, salt="srr.session")

    def issue(self, session: Session) -> str:
        """Return the cookie of a new session."""
        return str(self._serializer.dumps(session.model_dump(exclude_none=True)))

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or None when it is forged or too old."""
        try:
            content = self._serializer.loads(cookie, max_age=int(SESSION_LIFETIME.total_seconds()))
            session = Session.model_validate(content)
        except (BadData, ValidationError):
            return None
        return session if "id" in content else None  # of a version that could not end them
