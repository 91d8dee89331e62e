"""The whole schema against the application: no 5xx, no undocumented status, no answer that differs from its model.

Once as one local user over the store in memory, and, with fewer examples, as the holder of a key and as nobody over
the database: what one store hides, another may not.
"""

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from schemathesis import Case
from schemathesis.specs.openapi.checks import CheckFunction, ignored_auth, positive_data_acceptance, unsupported_method
from sqlalchemy import Engine

from service.app import create_app
from service.jobs.memory_store import MemoryJobStore
from service.jobs.ports import JobStore
from service.jobs.sql_store import SqlJobStore
from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES, Quota
from service.keys.store import KeyStore
from service.settings import ServiceSettings
from tests.service import finished

pytestmark = pytest.mark.slow
EXAMPLES, FEW_EXAMPLES = 25, 8

# The schema needs no database: that is opened at startup.
OPERATIONS = [(path, method) for path, operations in create_app().openapi()["paths"].items() for method in operations]
EACH_OPERATION = pytest.mark.parametrize(
    ("path", "method"), OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS]
)


@pytest.fixture
def settings() -> ServiceSettings:
    """Settings that answer whatever host the client library makes up."""
    return ServiceSettings(allowed_hosts=("*",), max_body_bytes=200_000, event_poll_seconds=0.01)


def keep_promises(
    application: FastAPI, path: str, method: str, *, count: int, without: tuple[CheckFunction, ...] = (), **request: Any
) -> None:
    """Send made-up requests of one operation, and check every answer."""
    operation = schemathesis.openapi.from_asgi("/openapi.json", application)[path][method]

    @examples(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def keeps_its_promises(case: Case) -> None:
        # An unknown method is a 405 of Starlette's, without an entry in the schema. And a schema cannot say that a
        # recipe, a cursor or a template must make sense: such requests are refused although they fit it.
        excluded = [unsupported_method, positive_data_acceptance, *without]
        case.call_and_validate(excluded_checks=excluded, **request)

    keeps_its_promises()


@EACH_OPERATION
def test_an_operation_keeps_its_promises(
    application: FastAPI, job_store: MemoryJobStore, path: str, method: str
) -> None:
    finished.succeeded(job_store)
    finished.failed(job_store)

    # The one local user is asked for no key, whatever the schema says.
    keep_promises(application, path, method, count=EXAMPLES, without=(ignored_auth,))


class TestWithKeysOverTheDatabase:
    """The same as several people meet it."""

    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return ServiceSettings(allowed_hosts=("*",), max_body_bytes=200_000, event_poll_seconds=0.01, sign_in="keys")

    @pytest.fixture
    def job_store(self, engine: Engine) -> JobStore:
        return SqlJobStore(engine)

    @pytest.fixture
    def headers(self, keys: KeyStore) -> dict[str, str]:
        quota = Quota(max_queued=None, max_running=None, requests_per_minute=100_000)
        issued = issue_key(keys, name="test", owner="ann", scopes=ALL_SCOPES, quota=quota)
        return {"Authorization": f"Bearer {issued.text}"}

    @EACH_OPERATION
    def test_an_operation_keeps_its_promises_to_the_holder_of_a_key(
        self, application: FastAPI, job_store: JobStore, headers: dict[str, str], path: str, method: str
    ) -> None:
        finished.succeeded(job_store, owner="ann")
        finished.failed(job_store, owner="ann")

        keep_promises(application, path, method, count=FEW_EXAMPLES, headers=headers)

    @EACH_OPERATION
    def test_an_operation_keeps_its_promises_to_nobody(self, application: FastAPI, path: str, method: str) -> None:
        keep_promises(application, path, method, count=FEW_EXAMPLES)
