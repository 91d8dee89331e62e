"""The client library's failures turned into ours: one sentence each, and nothing of the request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.errors import RevisionNotFoundError as RemoteRevisionNotFoundError

from service.hub import errors
from service.platform.text import clean

_UNAVAILABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_WRAPPERS = (LocalEntryNotFoundError, OfflineModeIsEnabled, RuntimeError)
"""What the library raises around, or instead of, the real failure; RuntimeError also comes from its native part."""
_NO_CONNECTION = (httpx2.ConnectError, httpx2.ConnectTimeout, ConnectionRefusedError)
_TRANSPORT = (httpx2.TransportError, httpx2.StreamError, ConnectionError, TimeoutError)


@dataclass(frozen=True)
class Subject:
    """What a call is about, for the sentence of its error."""

    repo_id: str
    revision: str | None = None
    writing: bool = False


def translate(error: BaseException, subject: Subject) -> errors.HubError | None:
    """Return our error for one of the library's, or None when it is not the hub's doing (a full disk, a bug)."""
    if isinstance(error, errors.HubError):
        return error
    for kind, sentence in _BY_CLASS.items():
        if isinstance(error, kind):
            return sentence(subject)
    if isinstance(error, (HfHubHTTPError, httpx2.HTTPStatusError)):
        return _by_status(error, subject)
    return _without_answer(error, subject)


def _without_answer(error: BaseException, subject: Subject) -> errors.HubError | None:
    if isinstance(error, RecursionError) or (isinstance(error, ValueError) and not subject.writing):
        # What a model's page says is passed on by the hub in its answers, and is that model's fault alone.
        return errors.HubRefusedError(f"What the hub says of {subject.repo_id} cannot be understood; look at its card.")
    if isinstance(error, _WRAPPERS):
        # A cause we do not know is a bug or this machine's trouble, and must not be retried as the hub's.
        return _unreachable(subject) if error.__cause__ is None else translate(error.__cause__, subject)
    if isinstance(error, _TRANSPORT):
        return _unreachable(subject, is_unreachable=isinstance(error, _NO_CONNECTION))
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return errors.DownloadCorruptedError(f"A file of {subject.repo_id} arrived shorter than announced; try again.")
    if isinstance(error, ValueError) and subject.writing:
        return errors.HubRefusedError(f"The hub rejects the files for {subject.repo_id}: {_one_line(str(error))}")
    return None


def _gated(subject: Subject) -> errors.HubError:
    return errors.GatedModelError(
        f"{subject.repo_id} is gated; accept its terms on its page with the account whose token you use, and give the "
        "token access to gated repositories."
    )


def _not_found(subject: Subject) -> errors.HubError:
    return errors.ModelNotFoundError(
        f"{subject.repo_id} does not exist on the hub, or it is private and the token may not see it; check the id, or "
        "give a token with access."
    )


def _no_revision(subject: Subject) -> errors.HubError:
    return errors.RevisionNotFoundError(
        f"{subject.repo_id} has no revision {subject.revision!r}; name a branch, a tag or a full commit sha."
    )


def _disabled(subject: Subject) -> errors.HubError:
    return errors.DisabledModelError(f"{subject.repo_id} has been disabled on the hub; choose another model.")


def _invalid_id(subject: Subject) -> errors.HubError:
    return errors.InvalidRepoIdError(f"{subject.repo_id!r} is not a repository id; write it as owner/name.")


def _unreachable(subject: Subject, *, is_unreachable: bool = False) -> errors.HubError:
    sentence = f"The hub could not be reached for {subject.repo_id}; try again later."
    return errors.HubUnavailableError(sentence, is_unreachable=is_unreachable)


# The first match wins: a gated repository's error is a subclass of a missing one's.
_BY_CLASS: Mapping[type[Exception], Callable[[Subject], errors.HubError]] = {
    GatedRepoError: _gated,
    DisabledRepoError: _disabled,
    RemoteRevisionNotFoundError: _no_revision,
    RepositoryNotFoundError: _not_found,
    HFValidationError: _invalid_id,
}


def _by_status(error: HfHubHTTPError | httpx2.HTTPStatusError, subject: Subject) -> errors.HubError:
    name, status = subject.repo_id, error.response.status_code
    said = _one_line(getattr(error, "server_message", None) or "")
    if status in _UNAVAILABLE:
        return errors.HubUnavailableError(
            f"The hub answered {status} for {name}; try again later.", retry_after_seconds=_retry_after(error.response)
        )
    answers: Mapping[int, errors.HubError] = {
        401: errors.InvalidTokenError("The hub does not accept this token; check that it is valid and not expired."),
        403: _forbidden(subject),
        404: errors.ModelNotFoundError(f"The hub has no such file or repository in {name}; check the id. {said}"),
        409: errors.DestinationConflictError(f"The hub reports a conflict on {name}: {said}"),
        412: errors.StaleParentError(f"{name} was changed by somebody else meanwhile; try again."),
    }
    return answers.get(status) or errors.HubRefusedError(f"The hub answered {status} for {name}: {said}")


def _forbidden(subject: Subject) -> errors.HubError:
    name = subject.repo_id
    if not subject.writing:
        return errors.AccessDeniedError(f"This token may not read {name}; use one that is allowed to.")
    return errors.DestinationForbiddenError(
        f"This token may not write to {name}; use one with write access to {name.split('/', maxsplit=1)[0]}."
    )


def _retry_after(response: httpx2.Response) -> float | None:
    header = response.headers.get("RateLimit", "")
    seconds = next((part[2:] for part in header.split(";") if part.startswith("t=")), None)
    seconds = seconds or response.headers.get("Retry-After")
    # One more second, as the client library waits: the window ends within the announced one.
    return float(seconds) + 1.0 if seconds is not None and seconds.isdigit() else None


def _one_line(text: str) -> str:
    return clean(" ".join(text.split()))[:300] or "no reason given."
