"""The application in this process, over a store in memory: everything but the worker is real."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from cryptography.fernet import Fernet
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.app import AppContext, build_app
from service.hub.chosen import ConfiguredHubs
from service.hub.settings import HubSettings
from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.policy import IDEMPOTENCY_LIFETIME
from service.jobs.tenancy import Tenancy
from service.jobs.uploads import TextUploads
from service.jobs.workers import WorkerRegistry
from service.keys.store import KeyStore
from service.metrics import InstallationCollector
from service.notifications.store import NotificationStore
from service.platform.columns import metadata
from service.platform.database import open_database
from service.platform.logging import configure_logging
from service.releases.store import WatchStore
from service.settings import ServiceSettings
from tests.service.models import write_model
from worker.folder_hub import FolderHub


@pytest.fixture
def job_store() -> MemoryJobStore:
    """An empty job store."""
    return MemoryJobStore()


@pytest.fixture
def settings() -> ServiceSettings:
    """Settings with a body limit that a test can exceed, and no waiting between two looks at a job."""
    return ServiceSettings(max_body_bytes=200_000, event_poll_seconds=0.01)


@pytest.fixture
def hub_dir(tmp_path: Path) -> Path:
    """The root of the folder hub."""
    return tmp_path / "hub"


@pytest.fixture
def hub(hub_dir: Path) -> FolderHub:
    """The folder hub, empty."""
    return FolderHub(hub_dir)


@pytest.fixture
def org_model(hub: FolderHub, tmp_path: Path) -> str:
    """A small model in the folder hub, as org/model with the tag v1; returns its commit."""
    return hub.import_model(write_model(tmp_path / "org-model"), "org/model", tag="v1")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with every table."""
    engine = open_database(f"sqlite:///{tmp_path / 'service.sqlite3'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def keys(engine: Engine) -> KeyStore:
    """An empty store of API keys."""
    return KeyStore(engine)


@pytest.fixture
def workers(engine: Engine) -> WorkerRegistry:
    """An empty list of workers."""
    return WorkerRegistry(engine)


@pytest.fixture
def watches(engine: Engine) -> WatchStore:
    """An empty store of watches."""
    return WatchStore(engine)


@pytest.fixture
def notifications(engine: Engine) -> NotificationStore:
    """An empty store of webhook endpoints."""
    return NotificationStore(engine)


@pytest.fixture
def vault() -> CredentialVault:
    """Seals secrets with a key of this test."""
    return CredentialVault([Fernet.generate_key().decode()], lifetime=IDEMPOTENCY_LIFETIME)


@pytest.fixture
def tenancy(engine: Engine) -> Tenancy:
    """Nothing lent and nothing published."""
    return Tenancy(engine)


@pytest.fixture
def hubs(hub_dir: Path) -> ConfiguredHubs:
    """The folder hub, for sources and destinations."""
    return ConfiguredHubs(HubSettings(source_hub="folder"), data_dir=hub_dir.parent)


@pytest.fixture
def hub_url() -> str:
    """Where links to the Hub lead."""
    return "https://huggingface.co"


@pytest.fixture
def app_context(
    settings: ServiceSettings,
    job_store: MemoryJobStore,
    hubs: ConfiguredHubs,
    workers: WorkerRegistry,
    keys: KeyStore,
    watches: WatchStore,
    notifications: NotificationStore,
    vault: CredentialVault,
    tenancy: Tenancy,
    engine: Engine,
    hub_url: str,
) -> AppContext:
    """What the application stands on."""
    return AppContext(
        store=job_store,
        wake=lambda: None,
        hubs=hubs,
        workers=workers,
        keys=keys,
        watches=watches,
        notifications=notifications,
        vault=vault,
        tenancy=tenancy,
        uploads=TextUploads(engine),
        hub_url=hub_url,
        collectors=(InstallationCollector(engine, deliveries=notifications.counts),),
    )


@pytest.fixture
def application(settings: ServiceSettings, app_context: AppContext) -> FastAPI:
    """The application; its lifespan, which opens a database, is not run."""
    return build_app(settings, app_context)


@pytest.fixture
def http(application: FastAPI) -> Iterator[TestClient]:
    """A browser-like client that sees errors as responses."""
    with TestClient(application, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What this process logs, as it is logged by the API."""
    root = logging.getLogger()
    handlers, level, before = root.handlers, root.level, structlog.get_config()
    stream = io.StringIO()
    configure_logging(stream=stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.configure(**before)
