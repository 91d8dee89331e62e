"""The application behind the pages, and a browser to look at them with."""

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import Engine

from service.app import AppContext, build_app
from service.hub.chosen import ConfiguredHubs
from service.hub.settings import HubSettings
from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.tenancy import Tenancy
from service.jobs.uploads import TextUploads
from service.jobs.workers import WorkerRegistry
from service.keys.store import KeyStore
from service.metrics import InstallationCollector
from service.notifications.store import NotificationStore
from service.platform.columns import metadata
from service.platform.database import open_database
from service.releases.store import WatchStore
from service.settings import ServiceSettings
from tests.service.models import write_model
from tests.service.serving import served
from worker.folder_hub import FolderHub

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium that is installed on this machine."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium on PATH")
        pytest.skip("no Chromium on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def job_store() -> MemoryJobStore:
    """The jobs behind the pages."""
    return MemoryJobStore()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with every table."""
    engine = open_database(f"sqlite:///{tmp_path / 'service.sqlite3'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


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
    return CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))


@pytest.fixture
def sign_in() -> Literal["none", "keys"]:
    """How people sign in: not at all, unless a test says otherwise."""
    return "none"


@pytest.fixture
def application(
    job_store: MemoryJobStore,
    engine: Engine,
    watches: WatchStore,
    notifications: NotificationStore,
    vault: CredentialVault,
    tmp_path: Path,
    sign_in: Literal["none", "keys"],
) -> FastAPI:
    """The application over the stores and a folder hub that holds org/model."""
    settings = ServiceSettings(sign_in=sign_in)
    FolderHub(tmp_path / "hub").import_model(write_model(tmp_path / "model"), "org/model")
    app_context = AppContext(
        store=job_store,
        tenancy=Tenancy(engine),
        uploads=TextUploads(engine),
        wake=lambda: None,
        hubs=ConfiguredHubs(HubSettings(source_hub="folder"), data_dir=tmp_path),
        workers=WorkerRegistry(engine),
        keys=KeyStore(engine),
        watches=watches,
        notifications=notifications,
        vault=vault,
        collectors=(InstallationCollector(engine, deliveries=notifications.counts),),
    )
    return build_app(settings, app_context)


@pytest.fixture
def url(application: FastAPI) -> Iterator[str]:
    """The address of the application."""
    with served(application) as url:
        yield url
