"""Fine-tunings in a real browser."""

from playwright.sync_api import Browser

from tests.e2e.visiting import DESKTOP, shoot, visit
from tests.service import finished


def test_rows_are_checked_on_the_page_without_losing_the_file(browser: Browser, url: str) -> None:
    with visit(browser, url, viewport=DESKTOP) as page:
        page.goto("/finetune")
        page.fill("#model_id", "org/absent")
        page.fill("#repo_id", "me/tuned")
        page.select_option("#task", "instructions")
        file = {"name": "rows.jsonl", "mimeType": "text/plain", "buffer": finished.ROWS.encode()}
        page.set_input_files("#data", files=[file])
        page.click("text=Check the rows")
        page.wait_for_selector("#checked mark")
        shoot(page, "finetune-checked")
        assert page.locator("#checked .example").count() == 2
        assert page.evaluate("document.querySelector('#data').files.length") == 1
