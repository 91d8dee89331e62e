"""Every page there is, at the width of a phone and of a desk, light and dark, with and without a script.

A page without an address below fails the first test, so none can be forgotten. With SRR_SCREENSHOTS set,
pictures of all of them are left in `.screenshots/`.
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, ViewportSize
from sqlalchemy import Engine

from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.workers import Worker, WorkerRegistry
from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES
from service.keys.store import KeyStore
from service.notifications.endpoints import create_endpoint, send_trial
from service.notifications.schema import Attempt, EndpointRules
from service.notifications.store import NotificationStore
from service.releases.schema import Release, ReleaseState, WatchRules
from service.releases.store import WatchStore
from service.releases.watches import create_watch
from srr_core.recipe import named_recipe
from tests.attacks.routes import ways
from tests.e2e.visiting import DESKTOP, PHONE, accessibility_problems, shoot, visit
from tests.service import finished
from tests.srr_core.telling import reports

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("sign_in", ["keys"])]
Scheme = Literal["light", "dark"]
OWNER = "team"
LONG_NAME = "organization-with-a-long-name/model-with-an-even-longer-name-8B-it"
PAGES: Mapping[str, tuple[str, ...]] = {
    "/": ("/", "/?from={done}", "/?from={done}&bits=more", "/?model_id=nowhere"),
    "/compare": ("/compare", "/compare?job={done}&job={twin}&by=size"),
    "/compare/finetunings": ("/compare/finetunings", "/compare/finetunings?job={tuned}&job={training}"),
    "/convert": ("/convert?from={done}&to=gguf", "/convert?from={converted}"),
    "/docs": ("/docs",),
    "/evaluate": ("/evaluate", "/evaluate?from={answered}"),
    "/finetune": ("/finetune", "/finetune?from={tuned}"),
    "/jobs": ("/jobs", "/jobs?text=with&tag=nightly&sort=-size"),
    "/jobs/{job_id}": tuple(
        f"/jobs/{{{name}}}"
        for name in (
            "done",
            "plain",
            "failed",
            "running",
            "queued",
            "measured",
            "answered",
            "training",
            "tuned",
            "converted",
        )
    ),
    "/jobs/{job_id}/report": tuple(
        f"/jobs/{{{name}}}/report" for name in ("done", "plain", "measured", "answered", "tuned", "converted")
    ),
    "/keys": ("/keys",),
    "/recipes": ("/recipes",),
    "/sign-in": ("/sign-in",),
    "/usage": ("/usage",),
    "/watches": ("/watches",),
    "/watches/new": ("/watches/new",),
    "/watches/{watch_id}": ("/watches/{watch}",),
    "/watches/{watch_id}/edit": ("/watches/{watch}/edit",),
    "/webhooks": ("/webhooks",),
    "/webhooks/{endpoint_id}": ("/webhooks/{endpoint}",),
    "/webhooks/{endpoint_id}/deliveries/{delivery_id}": ("/webhooks/{endpoint}/deliveries/{delivery}",),
    "/workers": ("/workers",),
}
"""Addresses of every page, in the states that look different."""
NO_PAGES = {
    *("/livez", "/readyz", "/metrics", "/jobs/{job_id}/report/picture"),  # for programs, or a file to keep
    *("/preview", "/jobs/{job_id}/live"),  # parts of pages, looked at inside of them
    *("/queue", "/sign-in/huggingface", "/sign-in/huggingface/callback"),  # lead elsewhere
}
STICKING_OUT = """() => {
  const scrolls = element => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  const isScrolled = (element, edge) =>
    element !== edge && (scrolls(element) || isScrolled(element.parentElement, edge));
  const sticksOut = (element, edge) => {
    const [inner, outer] = [element.getBoundingClientRect(), edge.getBoundingClientRect()];
    const sticks = inner.right > outer.right + 1 || inner.left < outer.left - 1;
    return sticks && inner.width > 0 && element.checkVisibility();
  };
  const found = (edges, inside) => [...document.querySelectorAll(edges)].flatMap(edge =>
    [...edge.querySelectorAll(inside)]
      .filter(element => sticksOut(element, edge) && !isScrolled(element.parentElement, edge))
      .map(element => `${element.localName} sticks out of ${edges}: ${element.textContent.trim().slice(0, 40)}`));
  return [...found(".card", "table, pre, figure, dl, p, ul, a, button, input, select"), ...found("svg", "text")];
}"""
LOOKS: tuple[tuple[ViewportSize, Scheme, Scheme], ...] = ((PHONE, "dark", "light"), (DESKTOP, "light", "dark"))
"""A size, the colours in which everything is checked there, and those in which contrast is."""
FOUND = Release(
    id="release_01k9z6h3v2m8q4t7w1x5y0c3d6",
    watch_id="",
    repo_id="org/model",
    ref="refs/heads/main",
    sha="a" * 40,
    seen_by="poller",
    state=ReleaseState.SKIPPED,
    reason="it was there before the watch",
    seen_at=datetime(2026, 1, 1, tzinfo=UTC),
    due_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture
def addresses(
    job_store: MemoryJobStore,
    watches: WatchStore,
    notifications: NotificationStore,
    vault: CredentialVault,
) -> list[str]:
    """Every address, over stores in which there is something of each kind."""
    # First, because it waits while its owner has another job at work.
    names = {"answered": finished.answered(job_store, owner=OWNER).id}
    names["done"] = finished.succeeded(
        job_store, model_id=LONG_NAME, document=reports.report(is_stock=True), tags=("nightly",), owner=OWNER
    ).id
    names["twin"] = finished.succeeded(job_store, model_id=LONG_NAME, recipe="qera-exact", owner=OWNER).id
    names["plain"] = finished.succeeded(job_store, owner=OWNER).id
    names["failed"] = finished.failed(job_store, owner=OWNER).id
    running = finished.running(job_store, owner=OWNER)
    finished.finish_layer(job_store, running, "model.layers.0.mlp.up_proj", error=0.125, preserved_rank=3)
    names |= {"running": running.id, "queued": finished.queued(job_store, owner=OWNER).id}
    made = (finished.measured, finished.training, finished.tuned, finished.converted)
    names |= {make.__name__: make(job_store, owner=OWNER).id for make in made}
    rules = WatchRules(name="ours", pattern="org/*", recipes=(named_recipe("srr"),), destination="us/{name}")
    names["watch"] = create_watch(rules, owner=OWNER, store=watches, vault=vault).id
    watches.record([FOUND.model_copy(update={"watch_id": names["watch"]})])
    now = datetime.now(UTC)
    worker = Worker(name=finished.WORKER, host="rack", device="cuda", version="0.1.0", started_at=now, seen_at=now)
    WorkerRegistry(notifications.engine).beat(worker)
    target = EndpointRules(url="https://93.184.216.34/a/rather/long/path/to/a/hook?with=parameters")
    names["endpoint"] = create_endpoint(target, owner=OWNER, store=notifications, vault=vault).endpoint.id
    message = send_trial(names["endpoint"], owner=OWNER, store=notifications)
    notifications.record(message, Attempt(delivery_id=message.id, number=1, at=now, error="no answer", seconds=15.0))
    names["delivery"] = message.id
    return [address.format(**names) for page in PAGES.values() for address in page]


def test_every_page_has_an_address_here(application: FastAPI) -> None:
    paths = {way.path for way in ways(application) if way.method == "GET" and not way.is_api}

    assert {path for path in paths if not path.startswith("/v1/")} - NO_PAGES == set(PAGES)


def signed_in(page: Page, engine: Engine) -> None:
    """Sign in as the owner of everything."""
    issued = issue_key(KeyStore(engine), name="first", owner=OWNER, scopes=ALL_SCOPES)
    page.goto("/sign-in?next=/recipes")
    page.get_by_label("API key").fill(issued.text)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/recipes")


def test_every_page_fits_and_has_no_accessibility_problem(
    browser: Browser, url: str, engine: Engine, addresses: list[str]
) -> None:
    found: dict[str, list[str]] = {}
    # The checker is not ours to serve, so here alone the policy is not enforced.
    with visit(browser, url, bypass_csp=True) as page:
        signed_in(page, engine)
        for number, address in enumerate(addresses):
            found[address] = answered(page, address)
            for size, scheme, other in LOOKS:
                page.set_viewport_size(size)
                page.emulate_media(color_scheme=scheme)
                found[address] += too_wide(page, size) + accessibility_problems(page)
                if "SRR_SCREENSHOTS" in os.environ:  # a person wants to look, too; pictures take as long as the checks
                    shoot(page, f"page-{size['width']}-{number:02}")
                page.emulate_media(color_scheme=other)
                # The structure is the same; what differs in other colours is contrast.
                found[address] += accessibility_problems(page, "color-contrast")

    assert {address: problems for address, problems in found.items() if problems} == {}


def test_every_page_is_whole_without_a_script(browser: Browser, url: str, engine: Engine, addresses: list[str]) -> None:
    found: dict[str, list[str]] = {}
    with visit(browser, url, java_script_enabled=False) as page:
        signed_in(page, engine)
        for address in addresses:
            found[address] = answered(page, address)
            for size, _, _ in LOOKS:
                page.set_viewport_size(size)
                found[address] += too_wide(page, size)
            # Buttons that only a script serves must not stand there.
            shown = page.evaluate(
                "[...document.querySelectorAll('[data-copy]')].filter(b => b.checkVisibility()).length"
            )
            found[address] += ["shows buttons that do nothing"] if shown else []

    assert {address: problems for address, problems in found.items() if problems} == {}


def answered(page: Page, address: str) -> list[str]:
    """Open a page and return whether that went wrong."""
    answer = page.goto(address)
    return [] if answer is not None and answer.ok else [f"answered {answer and answer.status}"]


def too_wide(page: Page, size: ViewportSize) -> list[str]:
    """Return whether a page is wider than its window, and what sticks out of its card or its picture."""
    wide = page.evaluate("document.documentElement.scrollWidth")
    window = [f"is {wide} wide where there are {size['width']}"] if wide > size["width"] else []
    return window + [f"at {size['width']}, {what}" for what in page.evaluate(STICKING_OUT)]
