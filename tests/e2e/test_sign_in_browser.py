"""Signing in with Hugging Face in a real browser, which has its own mind about cookies that cross sites."""

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, expect, sync_playwright

from service.app import AppContext, build_app
from service.commands.serve import LOOPBACK, listen
from service.hub.chosen import ConfiguredHubs
from service.hub.settings import HubSettings
from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from service.jobs.tenancy import Tenancy
from service.jobs.uploads import TextUploads
from service.jobs.workers import WorkerRegistry
from service.keys.store import KeyStore
from service.notifications.store import NotificationStore
from service.platform.columns import metadata
from service.platform.database import open_database
from service.releases.store import WatchStore
from service.settings import ServiceSettings
from tests.oidc_server.people import CLIENT_ID, CLIENT_SECRET
from tests.oidc_server.server import ANN, OIDCServer
from tests.service.models import write_model
from tests.service.serving import address_of, served
from worker.folder_hub import FolderHub

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = Path(".screenshots")
pytestmark = pytest.mark.slow


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
def url(job_store: MemoryJobStore, tmp_path: Path) -> Iterator[str]:
    """The address of a service whose provider is another site: another name of this machine."""
    listener = listen(LOOPBACK, 0)
    address = address_of(listener)
    engine = open_database(f"sqlite:///{tmp_path / 'service.sqlite3'}")
    metadata.create_all(engine)
    FolderHub(tmp_path / "hub").import_model(write_model(tmp_path / "model"), "org/model")
    with OIDCServer(redirect_uri=f"{address}/sign-in/huggingface/callback", host="localhost") as provider:
        settings = ServiceSettings.model_validate(
            {
                "sign_in": "huggingface",
                "oauth_client_id": CLIENT_ID,
                "oauth_client_secret": CLIENT_SECRET,
                "public_url": address,
            }
        )
        app_context = AppContext(
            store=job_store,
            tenancy=Tenancy(engine),
            uploads=TextUploads(engine),
            wake=lambda: None,
            hubs=ConfiguredHubs(HubSettings(source_hub="folder"), data_dir=tmp_path),
            hub_url=provider.url,
            workers=WorkerRegistry(engine),
            keys=KeyStore(engine),
            watches=WatchStore(engine),
            notifications=NotificationStore(engine),
            vault=CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1)),
        )
        with served(build_app(settings, app_context), listener):
            yield address
    engine.dispose()


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_somebody_signs_in_submits_and_signs_out(
    browser: Browser, url: str, job_store: MemoryJobStore, viewport: dict[str, int]
) -> None:
    context = browser.new_context(base_url=url, viewport=viewport, java_script_enabled=False, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    SCREENSHOTS.mkdir(exist_ok=True)

    page.goto("/jobs")
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    expect(page.get_by_label("API key")).to_be_visible()
    width = page.evaluate("document.documentElement.scrollWidth")
    page.screenshot(path=SCREENSHOTS / f"sign-in-{viewport['width']}.png", full_page=True)
    page.get_by_role("link", name="Sign in with Hugging Face").click()
    expect(page).to_have_url(f"{url}/jobs")
    page.goto("/")
    expect(page.get_by_text(ANN.name, exact=True)).to_be_visible()
    page.screenshot(path=SCREENSHOTS / f"signed-in-{viewport['width']}.png", full_page=True)
    page.get_by_label("Model", exact=True).fill("org/model")
    page.get_by_role("button", name="Compress").click()
    expect(page.get_by_role("status")).to_have_text("Queued")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in with Hugging Face")).to_be_visible()

    assert [job.owner for job in job_store.list(JobFilter(), limit=10).jobs] == [f"hf:{ANN.subject}"]
    assert [cookie["name"] for cookie in context.cookies(url)] == ["srr_form"]
    assert complaints == []
    assert width == viewport["width"]
    context.close()


def test_a_failure_is_told_on_the_sign_in_page(browser: Browser, url: str) -> None:
    context = browser.new_context(base_url=url, viewport=PHONE, color_scheme="light")
    page = context.new_page()

    page.goto("/sign-in/huggingface/callback?state=x&code=y")

    expect(page.get_by_role("alert")).to_contain_text("Sign in again")
    expect(page.get_by_role("link", name="Sign in with Hugging Face")).to_be_visible()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "sign-in-failed-390.png", full_page=True)
    context.close()
