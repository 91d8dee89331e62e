"""The people and the application that the provider knows, and the grants it has given."""

import functools
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "srr-test", "a client secret"

Lie = Literal["issuer", "audience", "nonce", "expired", "signature", "symmetric", "unsigned", "access_token", "subject"]
"""What an ID token, or the userinfo that comes after it, says wrongly."""


@functools.cache
def signing_key(_whose: str) -> RSAKey:
    """Return a key, the same for the same owner: making one takes a tenth of a second."""
    return RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})


@dataclass(frozen=True)
class Person:
    """Somebody with an account; organizations as the Hub lists them."""

    subject: str
    name: str
    organizations: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Grant:
    """What was agreed on in the browser, for the code that went back through it."""

    person: Person
    redirect_uri: str
    challenge: str
    nonce: str
    scope: str


@dataclass
class ProviderState:
    """Everything the provider remembers, and how it misbehaves."""

    person: Person
    redirect_uri: str
    access_token: str = "hf_oauth_0123456789abcdef"
    expires_in: int | None = 8 * 3600
    client_secret: str | None = CLIENT_SECRET
    error: str | None = None
    """What the browser brings back instead of a code."""
    lie: Lie | None = None
    issuer: str | None = None
    """What the metadata say; None: the truth."""
    down: frozenset[str] = frozenset()
    """Paths that answer 503."""
    garbage: frozenset[str] = frozenset()
    """Paths that answer with something that is no JSON."""
    grants: dict[str, Grant] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Paths asked for, in the order of arrival."""
    slow_seconds: float = 0.0
    """How long every answer takes."""
    key: RSAKey = field(default_factory=lambda: signing_key("ours"))

    def add(self, grant: Grant) -> str:
        """Return a code that can be exchanged once."""
        code = secrets.token_urlsafe(16)
        self.grants[code] = grant
        return code

    def jwks(self) -> Mapping[str, Any]:
        """Return the public keys."""
        return KeySet([self.key]).as_dict(private=False)

    def id_token(self, grant: Grant, issuer: str) -> str:
        """Return the signed word about who was there, with the lie a test asked for."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": issuer,
            "sub": grant.person.subject,
            "aud": CLIENT_ID,
            "nonce": grant.nonce,
            "iat": now,
            "exp": now + 3600,
        }
        claims |= {
            "issuer": {"iss": "https://elsewhere.example"},
            "audience": {"aud": "another-application"},
            "nonce": {"nonce": "of another sign-in"},
            "expired": {"iat": now - 7200, "exp": now - 3600},
            "access_token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        }.get(self.lie or "", {})
        return self._signed(claims)

    def _signed(self, claims: dict[str, Any]) -> str:
        if self.lie == "symmetric":
            secret = OctKey.import_key(self.client_secret or "")
            return jwt.encode({"alg": "HS256", "kid": "one"}, claims, secret)
        if self.lie == "unsigned":
            _, payload, _ = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key).split(".")
            return f"eyJhbGciOiJub25lIn0.{payload}."
        key = signing_key("somebody else's") if self.lie == "signature" else self.key
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)

    def userinfo(self, person: Person) -> Mapping[str, Any]:
        """Return what the Hub tells with the scope `profile`."""
        return {
            "sub": "somebody-else" if self.lie == "subject" else person.subject,
            "name": person.name.title(),
            "preferred_username": person.name,
            "orgs": list(person.organizations),
        }
