"""Jobs, endpoints, a receiver that answers as told, and a clock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from service.jobs.credentials import CredentialVault
from service.jobs.schema import Job, JobFailure, JobResult, Lease
from service.jobs.sql_store import SqlJobStore
from service.jobs.work import JobDestination, JobSource
from service.notifications.delivering import DeliveryContext, send_messages, write_messages
from service.notifications.endpoints import change_endpoint, create_endpoint
from service.notifications.schema import Endpoint, EndpointRules, NewEndpoint
from service.notifications.sending import Outcome
from service.notifications.store import NotificationStore
from service.platform.database import migrate, open_database
from tests.service.submitting import submission, submitted

LEASE = timedelta(minutes=1)


@dataclass
class Office:
    """Jobs, endpoints, a receiver that answers as told, and a clock."""

    jobs: SqlJobStore
    store: NotificationStore
    vault: CredentialVault
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    statuses: list[int] = field(default_factory=list)
    sent: list[tuple[str, Sequence[str]]] = field(default_factory=list)

    @property
    def context(self) -> DeliveryContext:
        return DeliveryContext(
            self.store, self.vault, self.send, "https://srr.example", clock=lambda: self.now, random=lambda: 0.5
        )

    def send(self, endpoint: Any, delivery: Any, secrets: Sequence[str], now: datetime) -> Outcome:
        self.sent.append((delivery.id, secrets))
        status = self.statuses.pop(0) if self.statuses else 200
        return Outcome(status, None if status < 300 else f"answered {status}", 0.01)

    def endpoint(self, owner: str = "alice", **rules: Any) -> NewEndpoint:
        defaults: dict[str, Any] = {"url": "https://example.org/hook"}
        return create_endpoint(
            EndpointRules(**(defaults | rules)),
            owner=owner,
            store=self.store,
            vault=self.vault,
            resolve=lambda host, port: ["93.184.215.14"],
            clock=lambda: self.now,
        )

    def switch_on(self, endpoint: Endpoint, **rules: Any) -> None:
        """Replace the rules of an endpoint as its owner would."""
        wanted = EndpointRules(**({"url": endpoint.url} | rules))
        change_endpoint(
            endpoint.id, wanted, owner=endpoint.owner, store=self.store, resolve=lambda host, port: ["93.184.215.14"]
        )

    def run_job(self, *, fails: bool = False, owner: str = "alice") -> Job:
        wanted = submission(source=JobSource(model_id="acme/model"), destination=JobDestination(repo_id="ours/model"))
        job = submitted(self.jobs, wanted, owner=owner)
        self.jobs.claim(job.id, 1, worker="w", lasts=LEASE)
        if fails:
            self.jobs.fail(Lease(job.id, 1, "w"), JobFailure(code="gated_model", message="Accept <!channel>"))
        else:
            self.jobs.publishing(Lease(job.id, 1, "w"))
            result = JobResult(repo_id="ours/model", commit_sha="b" * 40, commit_url="https://hub/ours/model/b")
            self.jobs.succeed(Lease(job.id, 1, "w"), result=result, report={})
        return self.jobs.get(job.id)

    def deliver(self) -> int:
        write_messages(self.context)
        return send_messages(self.context)


@pytest.fixture(params=["sqlite", "postgresql"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    yield Office(SqlJobStore(engine), NotificationStore(engine), vault)
    engine.dispose()
