"""Everything a hub refuses or fails at, as one tree with a stable code per leaf.

HubError
├── InvalidRepoIdError           invalid_repo_id
├── ModelNotFoundError           model_not_found
│   └── RevisionNotFoundError    revision_not_found
├── AccessDeniedError            access_denied
│   ├── GatedModelError          gated_model
│   └── InvalidTokenError        invalid_hub_token
├── DisabledModelError           disabled_model
├── UnsafeModelError             unsafe_model
│   ├── NoSafetensorsError       no_safetensors
│   └── RemoteCodeError          needs_remote_code
├── InvalidWeightsError          invalid_checkpoint
├── InvalidConfigError           invalid_config
├── LicenseError                 license_forbids_derivatives
│   └── LicenseUnclearError      license_unclear
├── DestinationRefusedError      destination_refused
│   ├── DestinationConflictError     destination_conflict
│   ├── DestinationForbiddenError    destination_forbidden
│   ├── PublicationRefusedError      publication_refused
│   └── StaleParentError         stale_parent            (retryable)
├── HubRefusedError              hub_refused
├── DownloadCorruptedError       download_corrupted      (retryable)
└── HubUnavailableError          hub_unavailable         (retryable)

No message and no attribute ever holds a token, a header or a response: an `HfHubHTTPError` pickles its
request with the Authorization header, so none of them leaves `service.hub.client`.
"""

from typing import ClassVar


class HubError(Exception):
    """A failure at a hub, with a sentence for the user: what, the value, what to do instead."""

    code: ClassVar[str] = "hub_error"
    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""


class InvalidRepoIdError(HubError):
    """A repository id that no hub can hold."""

    code = "invalid_repo_id"


class NoModelFolderError(HubError):
    """A folder of this machine that cannot be brought into the hub."""

    code = "no_model_folder"


class ModelNotFoundError(HubError):
    """A repository that does not exist, or that the token may not see: a hub does not say which."""

    code = "model_not_found"


class RevisionNotFoundError(ModelNotFoundError):
    """A branch, tag or commit that the repository does not have."""

    code = "revision_not_found"


class AccessDeniedError(HubError):
    """A repository that exists but that this token may not read."""

    code = "access_denied"


class GatedModelError(AccessDeniedError):
    """A model whose terms the owner of the token has not accepted, or was not granted."""

    code = "gated_model"


class InvalidTokenError(AccessDeniedError):
    """A token the hub does not know: mistyped, expired or revoked."""

    code = "invalid_hub_token"


class DisabledModelError(HubError):
    """A repository that its owner or the hub has disabled."""

    code = "disabled_model"


class UnsafeModelError(HubError):
    """A model that could only be read by running what it brings along."""

    code = "unsafe_model"


class NoSafetensorsError(UnsafeModelError):
    """A model with pickle weights only; loading those runs code of a stranger."""

    code = "no_safetensors"


class RemoteCodeError(UnsafeModelError):
    """A model whose configuration asks for Python files of its repository."""

    code = "needs_remote_code"


class InvalidWeightsError(HubError):
    """A safetensors file whose header cannot be read."""

    code = "invalid_checkpoint"


class InvalidConfigError(HubError):
    """A config.json with what is no text, or nested beyond all reason."""

    code = "invalid_config"


class LicenseError(HubError):
    """A licence that forbids derivatives, which a compressed model is."""

    code = "license_forbids_derivatives"


class LicenseUnclearError(LicenseError):
    """A licence that nobody here can judge: missing, or one that is on no list. Whoever submits has to."""

    code = "license_unclear"


class DestinationRefusedError(HubError):
    """A repository we will not or cannot publish to."""

    code = "destination_refused"


class DestinationConflictError(DestinationRefusedError):
    """A destination that exists and is not an artifact of ours made from the same source."""

    code = "destination_conflict"


class DestinationForbiddenError(DestinationRefusedError):
    """A destination this token may not write to."""

    code = "destination_forbidden"


class PublicationRefusedError(DestinationRefusedError):
    """A publication that would show in public what its source does not."""

    code = "publication_refused"


class StaleParentError(DestinationRefusedError):
    """A branch that moved between preparing and publishing."""

    code = "stale_parent"
    retryable = True


class HubRefusedError(HubError):
    """A request the hub rejects for a reason none of the other classes names."""

    code = "hub_refused"


class DownloadCorruptedError(HubError):
    """A file whose size or hash differs from what the hub lists."""

    code = "download_corrupted"
    retryable = True


class HubUnavailableError(HubError):
    """A hub that did not answer, was overloaded, or limits our rate."""

    code = "hub_unavailable"
    retryable = True

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, is_unreachable: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        """How long the hub asked us to wait, when it did."""
        self.is_unreachable = is_unreachable
        """Whether no connection came about: then no other question will be answered either."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore_unavailable, (str(self), self.retry_after_seconds, self.is_unreachable))


def _restore_unavailable(message: str, retry_after_seconds: float | None, is_unreachable: bool) -> HubUnavailableError:
    return HubUnavailableError(message, retry_after_seconds=retry_after_seconds, is_unreachable=is_unreachable)
