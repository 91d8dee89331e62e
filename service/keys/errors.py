"""Everything a key can be refused for, as one tree with a stable code per leaf.

ApiKeyError
├── InvalidKeyError         invalid_api_key
├── KeyNotFoundError        api_key_not_found
├── MissingScopeError       missing_scope
├── QuotaExceededError      quota_exceeded
├── QuotaTooLargeError      quota_too_large
└── RateLimitedError        rate_limited
"""

from typing import ClassVar


class ApiKeyError(Exception):
    """A refusal with a sentence for the caller."""

    code: ClassVar[str] = "api_key_error"


class InvalidKeyError(ApiKeyError):
    """A key that is malformed, unknown, expired or revoked; the answer does not say which."""

    code = "invalid_api_key"


class KeyNotFoundError(ApiKeyError):
    """No key has this id, or it belongs to somebody else."""

    code = "api_key_not_found"


class MissingScopeError(ApiKeyError):
    """A valid key that may not do this."""

    code = "missing_scope"


class QuotaExceededError(ApiKeyError):
    """More jobs than the key may have at once, or more time than it may use in a day."""

    code = "quota_exceeded"

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QuotaTooLargeError(ApiKeyError):
    """A key that was to have more than the one that makes it."""

    code = "quota_too_large"


class RateLimitedError(ApiKeyError):
    """More requests than the key may send."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
