"""The pages, as a browser without JavaScript uses them."""

import re
from html import escape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter, Lease
from srr_core.telling.gallery import pictures
from srr_core.telling.verdict import verdict
from tests.service import finished
from tests.service.web.visiting import FORM, token_of
from tests.srr_core.telling import reports as compared
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.usefixtures("org_model")


def test_a_form_without_our_token_is_refused(http: TestClient, job_store: MemoryJobStore) -> None:
    token_of(http)

    response = http.post("/jobs", data={**FORM, "csrf_token": "0" * 64})

    assert response.status_code == 403
    assert job_store.list(JobFilter(), limit=1).jobs == ()


def test_a_form_from_another_site_is_refused_even_with_a_token(http: TestClient, job_store: MemoryJobStore) -> None:
    form = {**FORM, "csrf_token": token_of(http)}

    response = http.post("/jobs", data=form, headers={"Origin": "http://evil.example"})

    assert response.status_code == 403
    assert job_store.list(JobFilter(), limit=1).jobs == ()


def test_a_token_of_another_visitor_does_not_fit(http: TestClient) -> None:
    form = {**FORM, "csrf_token": token_of(http)}
    http.cookies.clear()
    token_of(http)

    assert http.post("/jobs", data=form).status_code == 403


def test_a_job_is_canceled_and_retried_from_its_page(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.queued(job_store)
    page = f"/jobs/{job.id}"

    canceled = http.post(f"{page}/cancel", data={"csrf_token": token_of(http, page)}, follow_redirects=False)
    state_after_cancel = job_store.get(job.id).state
    retried = http.post(f"{page}/retry", data={"csrf_token": token_of(http, page)}, follow_redirects=False)

    assert (canceled.status_code, state_after_cancel) == (303, "canceled")
    assert (retried.status_code, job_store.get(job.id).state) == (303, "queued")


def test_canceling_needs_the_token_too(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.queued(job_store)

    assert http.post(f"/jobs/{job.id}/cancel").status_code == 403
    assert job_store.get(job.id).state == "queued"


def test_a_running_job_refreshes_itself_and_a_finished_one_does_not(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    running, done = finished.running(job_store), finished.succeeded(job_store)
    finished.finish_layer(job_store, running, "model.layers.0.up", error=0.125, preserved_rank=3)

    running_page, done_page = http.get(f"/jobs/{running.id}").text, http.get(f"/jobs/{done.id}").text

    assert '<noscript><meta http-equiv="refresh"' in running_page
    assert "hx-trigger" in running_page
    assert "model.layers.0.up: output error 0.1250" in running_page
    assert "http-equiv" not in done_page
    assert "hx-trigger" not in done_page
    assert f"/jobs/{done.id}/report" in done_page


def test_a_failure_is_told_in_words(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store, message="org/model is gated: accept its terms")

    assert "org/model is gated: accept its terms" in http.get(f"/jobs/{job.id}").text


def test_names_from_a_model_cannot_become_markup(http: TestClient, job_store: MemoryJobStore) -> None:
    evil = "<img src=x onerror=alert(1)>"
    job = finished.running(job_store)
    finished.finish_layer(job_store, job, evil, error=0.5, preserved_rank=1)
    job_store.append_event(Lease(job.id, 1, finished.WORKER), "log", {"message": evil})
    finished.finish(job_store, job, document=finished.report(layer_name=evil))

    pages = [http.get(f"/jobs/{job.id}").text, http.get(f"/jobs/{job.id}/report").text]

    assert all(evil not in page for page in pages)
    assert all("&lt;img src=x" in page for page in pages)


def test_no_page_has_an_inline_script_or_style(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)
    paths = ["/", "/jobs", "/recipes", f"/jobs/{job.id}", f"/jobs/{job.id}/report"]

    pages = "".join(http.get(path).text for path in paths)

    assert not re.search(r"<style|<script(?! src=)|\sstyle=|\son[a-z]+=|javascript:", pages)
    assert set(re.findall(r"""(?:src|href)=["']((?:https?:)?//[^"']+)""", pages)) == {
        "https://hub.example/commit/b",
    }


def test_the_report_page_shows_the_numbers(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    page = http.get(f"/jobs/{job.id}/report").text

    assert "9.25" in page
    assert "5.0 MiB" in page
    assert "38.500" in page
    assert "+0.0397 ± 0.0021 nats per token" in page
    assert "outside the repeated blocks" in page


def test_the_report_page_begins_with_the_verdict_and_its_picture(http: TestClient, job_store: MemoryJobStore) -> None:
    document = compared.report()
    job = finished.succeeded(job_store, document=document)

    page = http.get(f"/jobs/{job.id}/report").text

    lead, _, rest = escape(verdict(document).sentence).replace("&#x27;", "&#39;").partition(": ")
    assert (
        page.index(f"<strong>{lead}.</strong><span>{rest}</span>")
        < page.index('class="facts tiles"')
        < page.index("<svg")
        < page.index("<h2>Result</h2>")
    )
    assert escape(pictures(document)[0].alt) in page
    assert page.count('class="picture wide-only"') == page.count('class="picture narrow-only"') == 3
    assert not re.search(r"<style|\sstyle=", page)


def test_the_same_stored_report_gives_the_same_page_byte_for_byte(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store, document=compared.report())

    first, second = (http.get(f"/jobs/{job.id}/report").text for _ in range(2))

    assert first == second


@pytest.mark.parametrize("name", ["frontier", "size", "errors"])
def test_a_picture_of_a_report_is_a_file_with_its_numbers_beside_it(
    name: str, http: TestClient, job_store: MemoryJobStore
) -> None:
    document = compared.report()
    job = finished.succeeded(job_store, document=document)
    picture = next(one for one in pictures(document) if one.name == name)

    drawing, numbers = (
        http.get(f"/jobs/{job.id}/report/picture", params={"name": name, "ending": ending}) for ending in ("svg", "csv")
    )

    assert (drawing.text, drawing.headers["content-type"]) == (picture.svg(), "image/svg+xml")
    assert (numbers.text, numbers.headers["content-type"]) == (picture.csv(), "text/csv; charset=utf-8")
    assert all(one.headers["content-disposition"].startswith("attachment") for one in (drawing, numbers))


def test_a_report_without_a_divergence_has_no_frontier_to_download(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    assert http.get(f"/jobs/{job.id}/report/picture?name=frontier").status_code == 409
    assert http.get(f"/jobs/{job.id}/report/picture?name=other").status_code == 422
    page = http.get(f"/jobs/{job.id}/report")
    assert (page.status_code, "no divergence" in page.text) == (200, False)


def test_jobs_are_filtered_by_state_and_model(http: TestClient, job_store: MemoryJobStore) -> None:
    finished.failed(job_store, model_id="org/failed-one")
    finished.queued(job_store, model_id="org/queued-one")

    page = http.get("/jobs", params={"state": "failed"}).text

    assert "org/failed-one" in page
    assert "org/queued-one" not in page
    assert "No job matches" in http.get("/jobs", params={"model_id": "org/none"}).text


def test_older_jobs_are_on_the_next_page(http: TestClient, job_store: MemoryJobStore) -> None:
    oldest = finished.queued(job_store, model_id="org/oldest")
    for _ in range(25):
        finished.queued(job_store)

    page = http.get("/jobs").text
    following = re.search(r'href="(/jobs\?[^"]+)" rel="next"', page)

    assert oldest.id not in page
    assert following is not None
    assert oldest.id in http.get(following[1].replace("&amp;", "&")).text


def test_every_recipe_is_on_its_page(http: TestClient) -> None:
    page = http.get("/recipes").text

    assert "srr-iterative" in page
    assert "arXiv:2410.06040" in page


def test_only_a_model_that_is_elsewhere_gets_a_link(
    http: TestClient, job_store: MemoryJobStore, hub_dir: Path, tiny_llama: Path
) -> None:
    FolderHub(hub_dir).import_model(tiny_llama, "org/here")
    here, there = finished.running(job_store, model_id="org/here"), finished.running(job_store, model_id="org/there")

    assert "huggingface.co" not in http.get(f"/jobs/{here.id}").text
    assert f'href="https://huggingface.co/org/there/tree/{finished.SHA}"' in http.get(f"/jobs/{there.id}").text


def test_a_retry_takes_a_token_again(http: TestClient, job_store: MemoryJobStore, vault: CredentialVault) -> None:
    job = finished.failed(job_store)
    form = {"csrf_token": token_of(http), "hub_token": "hf_abcdefghijklmnop"}

    http.post(f"/jobs/{job.id}/retry", data=form)

    job_store.claim(job.id, 2, worker=finished.WORKER, lasts=finished.LEASE)
    sealed = job_store.credential(Lease(job.id, 2, finished.WORKER))
    assert sealed is not None
    assert vault.open(sealed) == "hf_abcdefghijklmnop"


def test_a_retry_that_cannot_help_is_not_the_first_thing_to_do(http: TestClient, job_store: MemoryJobStore) -> None:
    hopeless, canceled = finished.failed(job_store), finished.queued(job_store)
    job_store.cancel(canceled.id)

    pages = [http.get(f"/jobs/{job.id}").text for job in (hopeless, canceled)]

    assert '<button class="button quiet" type="submit">Retry' in pages[0]
    assert '<a class="button" href="/?from=' in pages[0]
    assert '<button class="button" type="submit">Retry' in pages[1]


@pytest.mark.parametrize("path", ["/jobs/x", "/nowhere", "/watches/x", f"/jobs/job_{'0' * 26}"])
def test_what_does_not_exist_is_a_page_that_says_so(http: TestClient, path: str) -> None:
    response = http.get(path, headers={"Accept": "text/html"})

    assert response.status_code == 404
    assert "Page not found" in response.text
    assert "Not Found" not in response.text


@pytest.mark.parametrize(
    ("path", "place"), [("/jobs", "Jobs"), ("/jobs?state=failed", "Jobs"), ("/watches/new", "Watches")]
)
def test_the_menu_marks_where_one_is(http: TestClient, path: str, place: str) -> None:
    assert set(re.findall(r'aria-current="\w+">(\w[\w ]*)<', http.get(path).text)) == {place}


def test_pages_that_alerts_send_people_to_are_in_the_menu(http: TestClient) -> None:
    alerts = (Path(__file__).parents[3] / "docker" / "monitoring" / "alerts.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"\bpage ([A-Z]\w+)", alerts, re.IGNORECASE))

    assert named
    assert named <= set(re.findall(r'<li><a href="[^"]+"[^>]*>([^<]+)</a>', http.get("/").text))
