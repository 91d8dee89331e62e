"""Everything a watch or an incoming webhook can be refused for, as one tree with a stable code per leaf.

ReleaseError
├── WatchNotFoundError      watch_not_found
├── InvalidWatchError       invalid_watch
├── HookForbiddenError      hook_forbidden
└── HookPayloadError        hook_payload
"""

from typing import ClassVar


class ReleaseError(Exception):
    """A refusal with a sentence for the caller."""

    code: ClassVar[str] = "release_error"


class WatchNotFoundError(ReleaseError):
    """No watch has this id, or it belongs to somebody else."""

    code = "watch_not_found"


class InvalidWatchError(ReleaseError):
    """A watch that could not work: a template that names no field of ours, or would publish over its source."""

    code = "invalid_watch"


class HookForbiddenError(ReleaseError):
    """A delivery without the secret of its watch; an unknown watch looks the same."""

    code = "hook_forbidden"


class HookPayloadError(ReleaseError):
    """A delivery that is not a webhook of the Hub."""

    code = "hook_payload"
