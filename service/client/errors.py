"""What a call to the service may fail with.

ClientError
├── ApiError            the service refused, with its problem document
├── UnreachableError    no service answers at this address
└── JobFailedError      a job that was waited for did not succeed
"""

from service.api.schemas import JobResource
from service.edge.problem import Problem


class ClientError(Exception):
    """A call that did not do what was asked."""


class ApiError(ClientError):
    """A refusal. `problem.code` is for programs, the message for people."""

    def __init__(self, problem: Problem) -> None:
        fields = "".join(f"\n  {error.field}: {error.message}" for error in problem.errors)
        super().__init__(f"{problem.detail}{fields if problem.code == 'invalid_request' else ''}")
        self.problem = problem


class UnreachableError(ClientError):
    """Nobody answers, or something that is not our service does."""


class JobFailedError(ClientError):
    """A job that ended without a result."""

    def __init__(self, job: JobResource) -> None:
        reason = job.failure.message if job.failure else "no reason was recorded"
        super().__init__(f"job {job.id} {job.state}" + ("" if job.state == "canceled" else f": {reason}"))
        self.job = job
