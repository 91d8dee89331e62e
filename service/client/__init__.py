"""A typed client of the REST API: `from service.client import Client`."""

from service.client.client import Client
from service.client.errors import ApiError, ClientError, JobFailedError, UnreachableError

__all__ = ["ApiError", "Client", "ClientError", "JobFailedError", "UnreachableError"]
