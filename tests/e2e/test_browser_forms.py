"""What people set up in a real browser: watches, webhooks, keys."""

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import Engine

from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES
from service.keys.store import KeyStore
from tests.e2e.visiting import DESKTOP, PHONE, shoot, visit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("viewport", "javascript"), [(PHONE, False), (DESKTOP, True)], ids=["plain-phone", "desktop"])
def test_a_watch_is_tried_made_paused_and_deleted(
    browser: Browser, url: str, viewport: dict[str, int], javascript: bool
) -> None:
    with visit(browser, url, viewport=viewport, java_script_enabled=javascript) as page:
        page.goto("/watches/new")
        page.get_by_label("Name").fill("ours")
        page.get_by_label("Models").fill("nobody/*")
        page.get_by_label("Destination").fill("us/{name}-{recipe}")
        page.get_by_role("checkbox", name="srr-gptq").check()
        page.get_by_role("button", name="Preview the last 30 days").click()
        expect(page.get_by_text("no release of the last 30 days matches")).to_be_visible()
        expect(page.get_by_role("checkbox", name="srr-gptq")).to_be_checked()
        page.get_by_role("button", name="Watch", exact=True).click()
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_text("paused", exact=True)).to_be_visible()
        page.get_by_text("Delete…").click()
        page.get_by_role("button", name="Delete ours").click()
        expect(page.get_by_text("No watch yet")).to_be_visible()


@pytest.mark.parametrize(("viewport", "javascript"), [(PHONE, False), (DESKTOP, True)], ids=["plain-phone", "desktop"])
def test_an_endpoint_is_made_tested_and_deleted(
    browser: Browser, url: str, viewport: dict[str, int], javascript: bool
) -> None:
    with visit(browser, url, viewport=viewport, java_script_enabled=javascript) as page:
        page.goto("/webhooks")
        page.get_by_label("Address").fill("https://93.184.216.34/hook")
        page.get_by_role("checkbox", name="queued").check()
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_text("whsec_")).to_be_visible()
        expect(page.get_by_role("button", name="Copy")).to_have_count(1 if javascript else 0)
        page.get_by_role("button", name="Send a test").click()
        page.get_by_role("link", name="endpoint.test").click()
        page.get_by_role("button", name="Resend").click()
        expect(page.get_by_text("Not tried yet")).to_be_visible()
        page.get_by_role("link", name="https://93.184.216.34/hook").click()
        page.get_by_text("Delete…").click()
        page.get_by_role("button", name="Delete this endpoint").click()
        expect(page.get_by_text("93.184.216.34")).to_have_count(0)


@pytest.mark.parametrize("sign_in", ["keys"])
@pytest.mark.parametrize(("viewport", "javascript"), [(PHONE, False), (DESKTOP, True)], ids=["plain-phone", "desktop"])
def test_somebody_signs_in_and_makes_and_revokes_a_key(
    browser: Browser, url: str, engine: Engine, viewport: dict[str, int], javascript: bool
) -> None:
    issued = issue_key(KeyStore(engine), name="first", owner="team", scopes=ALL_SCOPES)

    with visit(browser, url, viewport=viewport, java_script_enabled=javascript) as page:
        page.goto("/keys")
        page.get_by_label("API key").fill(issued.text)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Name").fill("second")
        page.get_by_role("checkbox", name="See watches").check()
        page.get_by_role("button", name="Create key").click()
        expect(page.get_by_text("Copy it now")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        if javascript:
            page.get_by_role("button", name="Copy").click()
            expect(
                page.get_by_role("button", name="Copied").or_(page.get_by_role("button", name="Selected"))
            ).to_be_visible()
            expect(page.get_by_role("heading", name="Usage")).to_be_visible()
        else:
            expect(page.get_by_role("link", name="Usage and quota")).to_be_visible()
        page.get_by_role("button", name="Revoke second").click()
        expect(page.get_by_text("revoked")).to_be_visible()
        shoot(page, f"keys-{viewport['width']}")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
