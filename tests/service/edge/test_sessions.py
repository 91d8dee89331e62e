"""The session cookie: what it remembers, and what is not believed."""

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from service.accounts import Account
from service.edge.sessions import Session, Sessions

ACCOUNT = Account(subject="5f3c", name="Ännchen", admitted_by="acme")


@pytest.mark.parametrize("session", [Session(key_id="0123456789abcdef"), Session(account=ACCOUNT)])
def test_a_cookie_gives_back_the_session_it_was_made_of(session: Session) -> None:
    cookie = Sessions("secret").issue(session)

    assert cookie.isascii()
    assert Sessions("secret").read(cookie) == session


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "é",
        Sessions("another secret").issue(Session(account=ACCOUNT)),
        URLSafeTimedSerializer("secret", salt="srr.session").dumps({"key_id": "0123456789abcdef"}),
        TimestampSigner("secret", salt="srr.session").sign("0123456789abcdef").decode(),  # the form before accounts
    ],
    ids=["empty", "no-ascii", "forged", "without-an-end", "older"],
)
def test_what_we_did_not_write_is_no_session(cookie: str) -> None:
    assert Sessions("secret").read(cookie) is None
