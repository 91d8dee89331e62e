"""From an exception to what the user is told: the twin of `service/api/errors.py`."""

import errno

from service.hub.errors import HubError
from service.jobs.errors import JobError
from service.jobs.schema import JobFailure
from service.platform.errors import PlatformError, StoreUnavailableError
from service.platform.logging import mask
from service.platform.text import clean
from srr_core.errors import SrrError, StorageError

_OUT_OF_MEMORY = "OutOfMemoryError"
"""Name of torch's exception; looked for by name, so that this module needs no torch."""


def failure_of(error: BaseException) -> JobFailure:
    """Return the failure an exception stands for. Its message never holds a secret or a stack trace."""
    if isinstance(error, HubError):
        return _failure(error.code, str(error), retryable=error.retryable)
    if isinstance(error, StorageError) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return _failure(StorageError.code, f"The worker ran out of disk space: {error}", retryable=True)
    if isinstance(error, SrrError | JobError | PlatformError):
        return _failure(error.code, str(error), retryable=isinstance(error, StoreUnavailableError))
    if isinstance(error, MemoryError) or type(error).__name__ == _OUT_OF_MEMORY:
        message = "The worker ran out of memory. Use a smaller calibration batch size, or a worker with more memory."
        return _failure("out_of_memory", message)
    return _failure(
        "internal_error",
        f"An unexpected {type(error).__name__} ended the job. The worker's log has the details under this job's id.",
    )


def _failure(code: str, message: str, *, retryable: bool = False) -> JobFailure:
    return JobFailure(code=code, message=clean(mask(message))[:2000], retryable=retryable)
