"""The whole schema against the application: no 5xx, no undocumented status, no answer that differs from its model."""

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from service.app import create_app
from service.jobs.memory_store import MemoryJobStore
from service.settings import ServiceSettings
from tests.service import finished

pytestmark = pytest.mark.slow
EXAMPLES = 25

# The schema needs no database: that is opened at startup.
OPERATIONS = [(path, method) for path, operations in create_app().openapi()["paths"].items() for method in operations]


@pytest.fixture
def settings() -> ServiceSettings:
    """Settings that answer whatever host the client library makes up."""
    return ServiceSettings(allowed_hosts=("*",), max_body_bytes=200_000, event_poll_seconds=0.01)


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS])
def test_an_operation_keeps_its_promises(
    application: FastAPI, job_store: MemoryJobStore, path: str, method: str
) -> None:
    finished.succeeded(job_store)
    finished.failed(job_store)
    operation = schemathesis.openapi.from_asgi("/openapi.json", application)[path][method]

    @examples(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def keeps_its_promises(case: Case) -> None:
        # An unknown method is a 405 of Starlette's, without an entry in the schema. And a schema cannot say that a
        # recipe, a cursor or a template must make sense: such requests are refused although they fit it.
        case.call_and_validate(excluded_checks=[unsupported_method, positive_data_acceptance])

    keeps_its_promises()
