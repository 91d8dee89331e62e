"""Opening a page in a real browser, with nothing for it to complain about."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize

ADVICE = "Password forms should have"
"""Chromium would have a form with a password name a user too. An API key has none."""
PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
SCREENSHOTS = Path(".screenshots")


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
    assert [complaint for complaint in complaints if ADVICE not in complaint] == []


def shoot(page: Page, name: str) -> None:
    """Keep a picture for a person to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def accessibility_problems(page: Page, *rules: str) -> list[str]:
    """Return whatever the checker finds on a page whose policy is not enforced: the checker is not ours to serve.

    Args:
        rules: Those to check; all by default.
    """
    page.evaluate((Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8"))
    options = {"runOnly": list(rules)} if rules else {}
    found = page.evaluate("options => axe.run(options).then(result => result.violations)", options)
    return [f"{violation['id']}: {violation['nodes'][0]['html']}" for violation in found]
