"""The pages in a real browser: phone and desktop, with and without JavaScript, and not one console message."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Lease
from srr_core.recipe import DEFAULT_RECIPE
from tests.e2e.visiting import DESKTOP, PHONE, shoot, visit
from tests.service import finished
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.slow


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
        claim = job_store.claim(job_id, 1, worker=finished.WORKER, lasts=finished.LEASE)
        assert claim is not None
        job = claim.job
        finished.finish_layer(job_store, job, "model.layers.0.mlp.up_proj", error=0.125, preserved_rank=3)
        expect(page.get_by_role("cell", name="0.1250")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()

        finished.finish(job_store, job)
        expect(page.get_by_role("status")).to_have_text("Succeeded")
        page.get_by_role("link", name="Report").click()
        expect(page.get_by_role("heading", name="Result")).to_be_visible()
        shoot(page, f"report-{viewport['width']}-{'script' if javascript else 'plain'}")

    assert named(DEFAULT_RECIPE).fullmatch(job_store.get(job_id).work.destination.repo_id)


def named(recipe: str) -> re.Pattern[str]:
    """Return what a result is proposed to be called: by the bits of the whole model."""
    return re.compile(rf"org/model-{recipe}-\d+\.\dbit")


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
        expect(page.locator("#preview")).to_contain_text(named(DEFAULT_RECIPE))
        page.get_by_text("Research").click()
        page.get_by_label("Recipe", exact=True).select_option("qera-exact")
        expect(page.locator("#preview")).to_contain_text(named("qera-exact"))
        page.get_by_text("Advanced").click()
        expect(page.get_by_label("Bits per code")).to_have_attribute("placeholder", "3")


def test_the_keyboard_reaches_the_content_first(browser: Browser, url: str) -> None:
    with visit(browser, url) as page:
        page.goto("/jobs")
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no-script"])
def test_results_are_found_chosen_and_compared(
    browser: Browser, url: str, job_store: MemoryJobStore, viewport: dict[str, int], javascript: bool
) -> None:
    finished.succeeded(job_store, model_id="org/other")
    finished.succeeded(job_store)
    finished.succeeded(job_store, recipe="qera-exact")

    with visit(browser, url, viewport=viewport, java_script_enabled=javascript) as page:
        page.goto("/jobs")
        page.get_by_label("Model or destination").fill("org/mod")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("row")).to_have_count(3)
        page.get_by_role("checkbox", name="srr").check()
        page.get_by_role("checkbox", name="qera-exact").check()
        page.get_by_role("button", name="Compare selected").click()
        expect(page.get_by_role("heading", name="Perplexity per token against bits per weight")).to_be_visible()
        # One chart of the results, one of the layers that differ.
        expect(page.get_by_role("img")).to_have_count(2)
        expect(page.get_by_role("table").first.get_by_role("row")).to_have_count(3)
        shoot(page, f"compare-{viewport['width']}")


def test_what_is_known_of_the_model_follows_what_is_typed(
    browser: Browser, url: str, tmp_path: Path, tiny_llama: Path
) -> None:
    FolderHub(tmp_path / "hub").import_model(tiny_llama, "org/model")

    with visit(browser, url) as page:
        check = page.locator("#check")
        page.goto("/")
        expect(page.get_by_role("button", name="Check first")).to_be_hidden()
        page.get_by_label("Model", exact=True).fill("org/model")
        expect(check).to_contain_text("Ready to submit")
        expect(check).to_contain_text("LlamaForCausalLM")
        page.get_by_text("Where the result runs").click()
        expect(check.get_by_role("listitem").first).to_be_visible()

        page.get_by_label("Model", exact=True).press("End")
        page.get_by_label("Model", exact=True).press("x")
        # At once, not when the next answer is there: that is about another model.
        assert check.inner_text() == ""
        expect(check).to_contain_text("model_not_found")
        page.get_by_label("Model", exact=True).fill("")
        expect(check).to_be_empty()
        expect(page.get_by_text("Looking at the model")).to_be_hidden()


def test_without_a_script_the_model_is_looked_at_by_a_button(
    browser: Browser, url: str, tmp_path: Path, tiny_llama: Path
) -> None:
    FolderHub(tmp_path / "hub").import_model(tiny_llama, "org/model")

    with visit(browser, url, viewport=PHONE, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_label("Model", exact=True).fill("org/model")
        page.get_by_role("button", name="Check first").click()
        expect(page.locator("#check")).to_contain_text("Ready to submit")
        expect(page.get_by_label("Model", exact=True)).to_have_value("org/model")


def test_the_menu_of_a_phone_opens_without_a_script(browser: Browser, url: str) -> None:
    with visit(browser, url, viewport=PHONE, java_script_enabled=False) as page:
        page.goto("/jobs")
        expect(page.get_by_role("link", name="Workers")).to_be_hidden()
        page.get_by_text("Menu").click()
        page.get_by_role("link", name="Workers").click()
        expect(page.get_by_role("heading", name="Workers", level=1)).to_be_visible()


def test_the_log_begins_at_its_newest_line(browser: Browser, url: str, job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)
    for number in range(60):
        job_store.append_event(Lease(job.id, 1, finished.WORKER), "log", {"message": f"line {number}"})

    with visit(browser, url) as page:
        page.goto(f"/jobs/{job.id}")
        box = page.get_by_role("log").bounding_box()
        newest = page.get_by_text("line 59").bounding_box()

    assert box is not None
    assert newest is not None
    assert newest["y"] + newest["height"] <= box["y"] + box["height"] + 1
