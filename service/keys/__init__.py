"""API keys: who may call the service, for what, how often, and until when."""

from service.keys.access import authenticate, issue_key, lack_of_room, require_quota, require_scope
from service.keys.rate_limit import MemoryRateLimiter, RateDecision, RateLimiter, RedisRateLimiter
from service.keys.schema import ALL_SCOPES, ApiKey, IssuedKey, Quota, Scope
from service.keys.store import KeyStore

__all__ = [
    "ALL_SCOPES",
    "ApiKey",
    "IssuedKey",
    "KeyStore",
    "MemoryRateLimiter",
    "Quota",
    "RateDecision",
    "RateLimiter",
    "RedisRateLimiter",
    "Scope",
    "authenticate",
    "issue_key",
    "lack_of_room",
    "require_quota",
    "require_scope",
]
