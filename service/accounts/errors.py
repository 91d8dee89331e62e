"""Everything a sign-in with an account can fail at, as one tree with a stable code per leaf.

SignInError
├── SignInExpiredError          sign_in_expired
├── StateMismatchError          sign_in_state_mismatch
├── ConsentDeniedError          consent_denied
├── NotAdmittedError            not_admitted
├── IdentityError               identity_not_proven
├── ProviderRefusedError        provider_refused
├── ProviderUnavailableError    provider_unavailable
└── HubAccessEndedError         hub_access_ended
"""

from typing import ClassVar


class SignInError(Exception):
    """A failed sign-in, with a sentence for the person who tried."""

    code: ClassVar[str] = "sign_in_failed"


class SignInExpiredError(SignInError):
    """The browser came back too late, a second time, or without the cookie it left with."""

    code = "sign_in_expired"


class StateMismatchError(SignInError):
    """The answer belongs to another sign-in than the one this browser started."""

    code = "sign_in_state_mismatch"


class ConsentDeniedError(SignInError):
    """The person did not want to give us what we asked for."""

    code = "consent_denied"


class NotAdmittedError(SignInError):
    """A real account that this service is not open to."""

    code = "not_admitted"


class IdentityError(SignInError):
    """The provider's word about who this is does not hold: issuer, audience, nonce, time or signature."""

    code = "identity_not_proven"


class ProviderRefusedError(SignInError):
    """The provider answered, but not with what the protocol promises."""

    code = "provider_refused"


class ProviderUnavailableError(SignInError):
    """The provider does not answer."""

    code = "provider_unavailable"


class HubAccessEndedError(SignInError):
    """The access to the Hub that came with a sign-in is gone, or will be before a job could publish."""

    code = "hub_access_ended"
