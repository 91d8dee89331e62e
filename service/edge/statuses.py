"""The one table from an exception to an HTTP status."""

from collections.abc import Mapping
from http import HTTPStatus

from service.accounts import errors as accounts
from service.edge.callers import SignInRequiredError
from service.hub import errors as hub
from service.jobs import errors as jobs
from service.keys import errors as keys
from service.notifications import errors as notifications
from service.platform import errors as platform
from service.releases import errors as releases
from service.submissions.feed import TooManyStreamsError
from service.submissions.refusal import SubmissionRefusedError
from srr_core.errors import EvaluationError, ExportError, RecipeError, TrainingDataError, UnsupportedModelError

STATUS: Mapping[type[Exception], HTTPStatus] = {
    RecipeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnsupportedModelError: HTTPStatus.UNPROCESSABLE_ENTITY,
    EvaluationError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ExportError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TrainingDataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.JobNotFoundError: HTTPStatus.NOT_FOUND,
    jobs.ReportNotReadyError: HTTPStatus.CONFLICT,
    jobs.JobFinishedError: HTTPStatus.CONFLICT,
    jobs.JobNotRetryableError: HTTPStatus.CONFLICT,
    jobs.IdempotencyConflictError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.InvalidJobError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.CapacityError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.TextNotFoundError: HTTPStatus.UNPROCESSABLE_ENTITY,
    jobs.TooManyTextsError: HTTPStatus.TOO_MANY_REQUESTS,
    jobs.DestinationTakenError: HTTPStatus.CONFLICT,
    jobs.HubTokenNeededError: HTTPStatus.FORBIDDEN,
    platform.InvalidCursorError: HTTPStatus.BAD_REQUEST,
    platform.UnstorableTextError: HTTPStatus.UNPROCESSABLE_ENTITY,
    platform.UnreadableError: HTTPStatus.CONFLICT,
    platform.LimitReachedError: HTTPStatus.CONFLICT,
    platform.StoreUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    hub.InvalidRepoIdError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.NoModelFolderError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    hub.AccessDeniedError: HTTPStatus.FORBIDDEN,
    hub.DisabledModelError: HTTPStatus.FORBIDDEN,
    hub.UnsafeModelError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.InvalidWeightsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.InvalidConfigError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.LicenseError: HTTPStatus.UNPROCESSABLE_ENTITY,
    hub.DestinationRefusedError: HTTPStatus.FORBIDDEN,
    hub.DestinationConflictError: HTTPStatus.CONFLICT,
    hub.HubUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    hub.HubError: HTTPStatus.BAD_GATEWAY,
    SignInRequiredError: HTTPStatus.UNAUTHORIZED,
    accounts.SignInExpiredError: HTTPStatus.BAD_REQUEST,
    accounts.StateMismatchError: HTTPStatus.BAD_REQUEST,
    accounts.ConsentDeniedError: HTTPStatus.FORBIDDEN,
    accounts.NotAdmittedError: HTTPStatus.FORBIDDEN,
    accounts.HubAccessEndedError: HTTPStatus.FORBIDDEN,
    accounts.ProviderUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    accounts.SignInError: HTTPStatus.BAD_GATEWAY,
    keys.InvalidKeyError: HTTPStatus.UNAUTHORIZED,
    keys.MissingScopeError: HTTPStatus.FORBIDDEN,
    keys.KeyNotFoundError: HTTPStatus.NOT_FOUND,
    keys.QuotaTooLargeError: HTTPStatus.FORBIDDEN,
    keys.QuotaExceededError: HTTPStatus.TOO_MANY_REQUESTS,
    keys.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    releases.WatchNotFoundError: HTTPStatus.NOT_FOUND,
    releases.InvalidWatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    releases.HookForbiddenError: HTTPStatus.FORBIDDEN,
    releases.HookPayloadError: HTTPStatus.UNPROCESSABLE_ENTITY,
    notifications.EndpointNotFoundError: HTTPStatus.NOT_FOUND,
    notifications.DeliveryNotFoundError: HTTPStatus.NOT_FOUND,
    notifications.InvalidEndpointError: HTTPStatus.UNPROCESSABLE_ENTITY,
    notifications.UnsafeAddressError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooManyStreamsError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""A subclass without a row of its own has the status of its nearest ancestor; anything else is a 500."""


def status_of(error: Exception) -> HTTPStatus:
    """Return the status of an exception whose type, or an ancestor of it, has a row in the table."""
    status = next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)
    # What a submission names is a part of its body: nothing is missing at the address it was sent to.
    is_named_in_body = status is HTTPStatus.NOT_FOUND and isinstance(error.__cause__, SubmissionRefusedError)
    return HTTPStatus.UNPROCESSABLE_ENTITY if is_named_in_body else status
