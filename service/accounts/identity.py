"""Who has signed in: the provider's signed word (ID token), checked, and what it tells about them (userinfo)."""

from collections.abc import Mapping
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from pydantic import ValidationError

from service.accounts.errors import IdentityError, ProviderRefusedError
from service.accounts.schema import Identity

ALGORITHMS = ("RS256", "ES256")
"""Signatures that are believed. Never a symmetric one: its key, the client secret, would sign for the provider."""
_CLOCK_SKEW_SECONDS = 60
_OBSTACLES = ("securityRestrictions", "pendingSSO", "missingMFA")
"""What the Hub says of an organization whose conditions somebody has not met; the first is the newer form."""


def proven_subject(
    id_token: str, keys: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, access_token: str
) -> str:
    """Return the subject of an ID token.

    Raises:
        IdentityError: signature, issuer, audience, nonce, time or the hash of the access token is wrong.
    """
    try:
        token = jwt.decode(id_token, KeySet.import_key_set({"keys": list(keys["keys"])}), algorithms=ALGORITHMS)
        claims = CodeIDToken(
            token.claims,
            token.header,
            {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}},
            {"nonce": nonce, "client_id": client_id, "access_token": access_token},
        )
        claims.validate(leeway=_CLOCK_SKEW_SECONDS)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise IdentityError(
            f"Hugging Face's answer does not prove who you are ({_reason(error)}). Sign in again; if that does not "
            "help, tell whoever runs this service."
        ) from None
    return str(claims["sub"])


def identity_of(subject: str, userinfo: Mapping[str, Any]) -> Identity:
    """Return who a proven subject is.

    Raises:
        IdentityError: the information is about somebody else.
        ProviderRefusedError: it has no name.
    """
    if userinfo.get("sub") != subject:
        raise IdentityError("Hugging Face told us about somebody else than who signed in. Sign in again.")
    try:
        return Identity(
            subject=subject,
            name=userinfo.get("preferred_username") or "",
            organizations=tuple(
                organization["preferred_username"]
                for organization in userinfo.get("orgs") or ()
                if not any(organization.get(obstacle) for obstacle in _OBSTACLES)
            ),
        )
    except (ValidationError, KeyError, TypeError, AttributeError):
        raise ProviderRefusedError(
            "Hugging Face did not tell your user name; tell whoever runs this service, who may have to ask for the "
            "scope 'profile'."
        ) from None


def _reason(error: Exception) -> str:
    # The claim or the kind of failure; never a value out of the token.
    return " ".join(filter(None, (getattr(error, "error", type(error).__name__), getattr(error, "claim", ""))))
