"""Evaluations and fine-tunings in a real browser, at the width of a phone and of a desk, light and dark."""

import pytest
from playwright.sync_api import Browser

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Job
from tests.e2e.visiting import DESKTOP, PHONE, serious_problems, shoot, visit
from tests.service import finished

SIZES = pytest.mark.parametrize(("width", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")], ids=["phone", "desktop"])


def made(store: MemoryJobStore, kind: str) -> Job:
    return {"measured": finished.measured, "training": finished.training, "tuned": finished.tuned}[kind](store)


@SIZES
@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("evaluate-form", "measured", "/evaluate?from={id}"),
        ("evaluate-job", "measured", "/jobs/{id}"),
        ("evaluate-report", "measured", "/jobs/{id}/report"),
        ("finetune-form", "tuned", "/finetune?from={id}"),
        ("finetune-running", "training", "/jobs/{id}"),
        ("finetune-job", "tuned", "/jobs/{id}"),
        ("finetune-report", "tuned", "/jobs/{id}/report"),
        ("finetune-comparison", "tuned", "/compare/finetunings?job={id}"),
    ],
)
def test_a_page_of_every_kind_fits_and_is_readable(
    browser: Browser,
    url: str,
    job_store: MemoryJobStore,
    name: str,
    kind: str,
    path: str,
    width: dict[str, int],
    scheme: str,
) -> None:
    job = made(job_store, kind)

    with visit(browser, url, viewport=width, color_scheme=scheme, bypass_csp=True) as page:
        page.goto(path.format(id=job.id))
        shoot(page, f"{name}-{width['width']}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width["width"]
        assert serious_problems(page) == []


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
