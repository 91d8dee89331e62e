"""The pages in a real browser: phone and desktop, with and without JavaScript, and not one console message."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography.fernet import Fernet
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import Engine

from service.api.hubs import ConfiguredHubs
from service.app import Parts, build_app
from service.commands.serve import LOOPBACK, listen
from service.jobs.credentials import CredentialVault
from service.jobs.database import open_database
from service.jobs.memory_store import MemoryJobStore
from service.jobs.tables import metadata
from service.jobs.workers import WorkerRegistry
from service.keys import KeyStore
from service.metrics import InstallationCollector
from service.notifications.endpoints import create_endpoint, send_trial
from service.notifications.schema import EndpointRules
from service.notifications.store import NotificationStore
from service.releases.schema import WatchRules
from service.releases.store import WatchStore
from service.releases.watches import create_watch
from service.settings import ServiceSettings
from srr_core.recipe import DEFAULT_RECIPE, named_recipe
from tests.service import finished

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
pytestmark = pytest.mark.slow
SCREENSHOTS = Path(".screenshots")


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
def application(
    job_store: MemoryJobStore,
    engine: Engine,
    watches: WatchStore,
    notifications: NotificationStore,
    vault: CredentialVault,
    tmp_path: Path,
) -> FastAPI:
    """The application over the stores and an empty folder hub."""
    settings = ServiceSettings(source_hub="folder")
    parts = Parts(
        store=job_store,
        wake=lambda: None,
        hubs=ConfiguredHubs(settings, data_dir=tmp_path),
        workers=WorkerRegistry(engine),
        keys=KeyStore(engine),
        watches=watches,
        notifications=notifications,
        vault=vault,
        collectors=(InstallationCollector(engine, deliveries=notifications.counts),),
    )
    return build_app(settings, parts)


@pytest.fixture
def url(application: FastAPI) -> Iterator[str]:
    """The address of the application."""
    listener = listen(LOOPBACK, 0)
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@contextmanager
def visit(browser: Browser, url: str, **choices: Any) -> Iterator[Page]:
    """Open a page; whatever the browser complains about on it fails the test."""
    context = browser.new_context(base_url=url, **choices)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(10_000)
    try:
        yield page
    finally:
        context.close()
    assert complaints == []


def shoot(page: Page, name: str) -> None:
    """Keep a picture for a person to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no-script"])
def test_a_job_is_submitted_watched_and_read(
    browser: Browser, url: str, job_store: MemoryJobStore, viewport: dict[str, int], javascript: bool
) -> None:
    with visit(browser, url, viewport=viewport, java_script_enabled=javascript) as page:
        page.goto("/")
        page.get_by_label("Model", exact=True).fill("org/model")
        page.get_by_text("Advanced").click()
        page.get_by_label("Bits per code").fill("2")
        page.get_by_role("button", name="Compress").click()
        expect(page.get_by_role("status")).to_have_text("Queued")

        job_id = page.url.rsplit("/", 1)[1]
        job = job_store.claim(job_id, 1, worker=finished.WORKER, lease=finished.LEASE)
        assert job is not None
        finished.finish_layer(job_store, job, "model.layers.0.mlp.up_proj", error=0.125, preserved_rank=3)
        expect(page.get_by_role("cell", name="0.1250")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()

        finished.finish(job_store, job)
        expect(page.get_by_role("status")).to_have_text("Succeeded")
        page.get_by_role("link", name="Report").click()
        expect(page.get_by_role("heading", name="Result")).to_be_visible()
        shoot(page, f"report-{viewport['width']}-{'script' if javascript else 'plain'}")

    assert job_store.get(job_id).destination.repo_id == f"org/model-{DEFAULT_RECIPE}-2bit"


def test_a_job_is_canceled_by_keyboard(browser: Browser, url: str, job_store: MemoryJobStore) -> None:
    job = finished.queued(job_store)

    with visit(browser, url) as page:
        page.goto(f"/jobs/{job.id}")
        page.get_by_role("button", name="Cancel").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("Canceled")
        expect(page.get_by_role("button", name="Retry")).to_be_visible()

    assert job_store.get(job.id).state == "canceled"


def test_the_summary_follows_what_is_typed(browser: Browser, url: str) -> None:
    with visit(browser, url) as page:
        page.goto("/")
        page.get_by_label("Model", exact=True).fill("org/model")
        expect(page.locator("#preview")).to_contain_text(f"org/model-{DEFAULT_RECIPE}-3bit")
        page.get_by_label("Recipe", exact=True).select_option("qera-exact")
        expect(page.locator("#preview")).to_contain_text("org/model-qera-exact-3bit")


def test_the_keyboard_reaches_the_content_first(browser: Browser, url: str) -> None:
    with visit(browser, url) as page:
        page.goto("/jobs")
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()


def every_page(
    job_store: MemoryJobStore, watches: WatchStore, notifications: NotificationStore, vault: CredentialVault
) -> list[str]:
    """Fill the stores and return the path of every page there is."""
    done = finished.succeeded(job_store, model_id="organization-with-a-long-name/model-with-an-even-longer-name-8B-it")
    failed = finished.failed(job_store)
    running = finished.running(job_store)
    finished.finish_layer(job_store, running, "model.layers.0.mlp.up_proj", error=0.125, preserved_rank=3)
    rules = WatchRules(name="ours", pattern="org/*", recipes=(named_recipe("srr"),), destination="us/{name}")
    create_watch(rules, owner="local", store=watches, vault=vault)
    target = EndpointRules(url="https://93.184.216.34/a/rather/long/path/to/a/hook?with=parameters")
    endpoint = create_endpoint(target, owner="local", store=notifications, vault=vault).endpoint
    send_trial(endpoint.id, owner="local", store=notifications)
    jobs = [f"/jobs/{job.id}" for job in (done, failed, running)]
    return ["/", "/jobs", *jobs, f"{jobs[0]}/report", "/compare", "/recipes", "/watches", "/webhooks", "/queue"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(
    browser: Browser,
    url: str,
    job_store: MemoryJobStore,
    watches: WatchStore,
    notifications: NotificationStore,
    vault: CredentialVault,
    scheme: str,
) -> None:
    paths = every_page(job_store, watches, notifications, vault)

    widths = {}
    with visit(browser, url, viewport=PHONE, color_scheme=scheme) as page:
        for number, path in enumerate(paths):
            page.goto(path)
            widths[path] = page.evaluate("document.documentElement.scrollWidth")
            shoot(page, f"phone-{scheme}-{number:02}")

    assert widths == dict.fromkeys(paths, PHONE["width"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_accessibility_problem(
    browser: Browser,
    url: str,
    job_store: MemoryJobStore,
    watches: WatchStore,
    notifications: NotificationStore,
    vault: CredentialVault,
    scheme: str,
) -> None:
    paths = every_page(job_store, watches, notifications, vault)
    axe = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")

    found = {}
    # The checker is not ours to serve, so for this test alone the policy is not enforced.
    with visit(browser, url, color_scheme=scheme, bypass_csp=True) as page:
        for path in paths:
            page.goto(path)
            page.evaluate(axe)
            violations = page.evaluate("axe.run().then(result => result.violations)")
            found[path] = [
                f"{violation['id']}: {violation['nodes'][0]['html']}"
                for violation in violations
                if violation["impact"] in ("serious", "critical")
            ]

    assert found == {path: [] for path in paths}


def test_results_are_compared(browser: Browser, url: str, job_store: MemoryJobStore) -> None:
    finished.succeeded(job_store)
    finished.succeeded(job_store, recipe="qera-exact")

    with visit(browser, url, viewport=PHONE) as page:
        page.goto("/compare")
        expect(page.get_by_role("heading", name="Error against size")).to_be_visible()
        expect(page.get_by_role("row")).to_have_count(3)
        shoot(page, "compare-phone")


def test_a_watch_and_an_endpoint_are_made_and_deleted(browser: Browser, url: str) -> None:
    with visit(browser, url, java_script_enabled=False) as page:
        page.goto("/watches")
        page.get_by_label("Name").fill("ours")
        page.get_by_label("Models").fill("org/*")
        page.get_by_label("Destination").fill("us/{name}-{recipe}")
        page.get_by_role("button", name="Watch").click()
        page.get_by_role("button", name="Delete ours").click()
        expect(page.get_by_role("heading", name="ours")).to_have_count(0)

        page.goto("/webhooks")
        page.get_by_label("Address").fill("https://93.184.216.34/hook")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_text("whsec_")).to_be_visible()
        page.get_by_role("button", name="Test https://93.184.216.34/hook").click()
        page.get_by_role("button", name="Resend").click()
        page.get_by_role("button", name="Delete https://93.184.216.34/hook").click()
        expect(page.get_by_role("heading", name="https://93.184.216.34/hook")).to_have_count(0)
