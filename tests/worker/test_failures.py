"""From exceptions to what the user is told."""

import errno

import pytest
import torch

from service.hub.errors import GatedModelError, HubUnavailableError
from service.jobs.errors import CredentialError
from service.platform.errors import StoreUnavailableError
from srr_core.errors import NonFiniteWeightError, StorageError
from worker.failures import failure_of


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (HubUnavailableError("The Hub does not answer."), "hub_unavailable", True),
        (GatedModelError("Accept the terms first."), "gated_model", False),
        (NonFiniteWeightError("layer.0 holds NaN"), "non_finite_weight", False),
        (StorageError("full"), "storage_exhausted", True),
        (OSError(errno.ENOSPC, "No space left on device"), "storage_exhausted", True),
        (OSError(errno.EACCES, "Permission denied"), "internal_error", False),
        (MemoryError(), "out_of_memory", False),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory", False),
        (CredentialError("expired"), "credential_unreadable", False),
        (StoreUnavailableError("away"), "store_unavailable", True),
        (KeyError("bug"), "internal_error", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_exception_becomes_a_code(error: Exception, code: str, retryable: bool) -> None:
    failure = failure_of(error)

    assert (failure.code, failure.retryable) == (code, retryable)
    assert failure.message.strip()


def test_message_is_masked_and_of_bounded_length() -> None:
    failure = failure_of(HubUnavailableError("hf_abcdEFGH12345678 was refused " + "x" * 10_000))

    assert "abcdEFGH" not in failure.message
    assert len(failure.message) == 2000
