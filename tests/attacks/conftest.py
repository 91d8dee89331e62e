"""A whole installation under attack: the application, its database, a Hub, and the processes of its jobs. Nothing is
a mock but the core."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.app import AppContext, build_app
from service.hub.chosen import ConfiguredHubs
from service.hub.settings import HubSettings
from service.jobs.credentials import CredentialVault
from service.jobs.policy import RetryPolicy
from service.jobs.schema import Job
from service.jobs.sql_store import SqlJobStore
from service.jobs.tenancy import Tenancy
from service.jobs.uploads import TextUploads
from service.jobs.workers import Worker, WorkerRegistry
from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES, Quota, Scope
from service.keys.store import KeyStore
from service.metrics import InstallationCollector
from service.notifications.store import NotificationStore
from service.platform.clock import utc_now
from service.platform.database import migrate, open_database
from service.releases.store import WatchStore
from service.settings import ServiceSettings
from tests.attacks.kinds import body
from tests.hub_server.server import HubServer
from tests.service.models import artifact_files, model_files
from tests.worker.supervised.conftest import Bench, Clock, bench
from worker.folder_hub import FolderHub

__all__ = ["bench"]
WORKERS_TOKEN = "hf_alice"
"""The test Hub's alice, of the organization acme: she is the operator."""
CARD = "---\nlicense: mit\n---\n"


@dataclass
class Installation:
    """One service, its worker, and whoever calls it."""

    http: TestClient
    engine: Engine
    store: SqlJobStore
    keys: KeyStore
    tenancy: Tenancy
    watches: WatchStore
    notifications: NotificationStore
    workers: WorkerRegistry
    vault: CredentialVault
    hub: HubServer
    data_dir: Path

    def bearer(self, owner: str, *scopes: Scope, quota: Quota | None = None) -> dict[str, str]:
        """Return the header of a new key of somebody."""
        issued = issue_key(self.keys, name="test", owner=owner, scopes=scopes or ALL_SCOPES, quota=quota)
        return {"Authorization": f"Bearer {issued.text}"}

    def submit(
        self, header: dict[str, str], source: str, destination: str | None, *, kind: str = "compress", **fields: Any
    ) -> Any:
        """Ask for a job and return the answer."""
        return self.http.post("/v1/jobs", json=body(kind, source, destination, **fields), headers=header)

    def work(self, job_id: str, behaviour: str = "succeed", *, own_token: str | None = WORKERS_TOKEN) -> Job:
        """Let a worker carry out a job in a process of its own, with the operator's token, and return the job."""
        folder = FolderHub(self.data_dir / "hub")
        bench = Bench(self.engine, self.store, folder, self.vault, self.data_dir, Clock())
        attempt = self.store.get(job_id).attempt
        bench.supervisor(behaviour, own_token=own_token, hub_url=self.hub.url).run(job_id, attempt)
        return self.store.get(job_id)


@pytest.fixture
def settings() -> ServiceSettings:
    """A service that asks for keys."""
    return ServiceSettings(sign_in="keys", event_poll_seconds=0.01)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Where the jobs are kept."""
    return f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite3'}"


@pytest.fixture
def installation(
    hub_server: HubServer, tmp_path: Path, settings: ServiceSettings, database_url: str
) -> Iterator[Installation]:
    """An installation whose worker has the operator's token, over a Hub with a public model and a public artifact."""
    data_dir = tmp_path / "data"
    engine = open_database(database_url)
    migrate(engine)
    hub_server.add_model("org/model", model_files(card=CARD))
    hub_server.add_model("org/artifact", artifact_files(card=CARD))
    store = SqlJobStore(engine, retries=RetryPolicy(first=timedelta(0)))
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    where = {"source_hub": "huggingface", "destination_hub": "huggingface", "hub_url": hub_server.url}
    keys, workers, now = KeyStore(engine), WorkerRegistry(engine), utc_now()
    watches, notifications = WatchStore(engine), NotificationStore(engine)
    facts = {"name": "w1", "host": "h", "device": "cpu", "version": "1", "has_hub_token": True}
    workers.beat(Worker.model_validate(facts | {"started_at": now, "seen_at": now}))
    context = AppContext(
        store=store,
        wake=lambda: None,
        hubs=ConfiguredHubs(HubSettings.model_validate(where), data_dir=data_dir),
        workers=workers,
        keys=keys,
        watches=watches,
        notifications=notifications,
        vault=vault,
        tenancy=Tenancy(engine),
        uploads=TextUploads(engine),
        hub_url=hub_server.url,
        collectors=(InstallationCollector(engine, deliveries=notifications.counts),),
    )
    with TestClient(build_app(settings, context), base_url="http://localhost", raise_server_exceptions=False) as http:
        yield Installation(
            http,
            engine,
            store,
            keys,
            context.tenancy,
            watches,
            notifications,
            workers,
            vault,
            hub_server,
            data_dir,
        )
    engine.dispose()
