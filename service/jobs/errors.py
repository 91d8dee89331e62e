"""Everything the job domain refuses or fails at, as one tree with a stable code per leaf.

JobError
├── JobNotFoundError            job_not_found
├── InvalidJobError             invalid_job
├── CapacityError               exceeds_capacity
├── DestinationTakenError       destination_taken
├── HubTokenNeededError         hub_token_needed
├── IdempotencyConflictError    idempotency_conflict
├── JobFinishedError            job_finished
├── JobNotRetryableError        job_not_retryable
├── ReportNotReadyError         report_not_ready
├── TextNotFoundError           text_not_found
├── TooManyTextsError           too_many_texts
├── InvalidTransitionError      invalid_transition
├── CredentialError             credential_unreadable
└── QueueUnavailableError       queue_unavailable
"""

from typing import ClassVar


class JobError(Exception):
    """A failure of the job domain with a sentence for the caller."""

    code: ClassVar[str] = "job_error"


class JobNotFoundError(JobError):
    """No job has this id, or it belongs to somebody else."""

    code = "job_not_found"


class InvalidJobError(JobError):
    """A submission that names things which cannot go together."""

    code = "invalid_job"


class CapacityError(JobError):
    """A job that no worker has the memory or the disk for."""

    code = "exceeds_capacity"


class DestinationTakenError(JobError):
    """A repository that another owner of this installation published, or that nobody here did."""

    code = "destination_taken"


class HubTokenNeededError(JobError):
    """A job that brings no Hub token and goes where the worker's is not lent to its owner."""

    code = "hub_token_needed"


class IdempotencyConflictError(JobError):
    """An idempotency key that came before with another request."""

    code = "idempotency_conflict"


class JobFinishedError(JobError):
    """A cancel that came after the end."""

    code = "job_finished"


class JobNotRetryableError(JobError):
    """A retry of a job that has not ended, or that succeeded."""

    code = "job_not_retryable"


class ReportNotReadyError(JobError):
    """A report that does not exist yet, or never will because the job did not succeed."""

    code = "report_not_ready"


class TextNotFoundError(JobError):
    """A text that no job brought along."""

    code = "text_not_found"


class TooManyTextsError(JobError):
    """More uploaded texts than an owner may have at a time."""

    code = "too_many_texts"


class InvalidTransitionError(JobError):
    """A state that may not follow the current one: a bug in the caller."""

    code = "invalid_transition"


class CredentialError(JobError):
    """A Hub token that cannot be read any more: it expired, or its key was removed."""

    code = "credential_unreadable"


class QueueUnavailableError(JobError):
    """A broker that does not answer; the job is kept and sent later."""

    code = "queue_unavailable"
