"""The pages, as a browser without JavaScript uses them."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from tests.service import finished
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.usefixtures("org_model")
FORM = {"model_id": "org/model", "revision": "main", "repo_id": "", "visibility": "", "recipe": "srr"}


def token_of(http: TestClient, path: str = "/") -> str:
    """Load a page and return the token of its form; the cookie stays in the client."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', http.get(path).text)
    assert found is not None
    return found[1]


def only_job(store: MemoryJobStore) -> str:
    """Return the id of the only job there is."""
    (job,) = store.list(JobFilter(), limit=10).jobs
    return job.id


def test_a_form_becomes_a_job_and_leads_to_its_page(http: TestClient, job_store: MemoryJobStore) -> None:
    form = {**FORM, "csrf_token": token_of(http), "num_bits": "2", "rank": "16", "num_sequences": "8"}

    response = http.post("/jobs", data=form, follow_redirects=False)

    job = job_store.get(only_job(job_store))
    assert (response.status_code, response.headers["location"]) == (303, f"/jobs/{job.id}")
    assert job.destination.repo_id == "org/model-srr-2bit"
    assert (job.recipe.quantization_bits, job.recipe.rank) == (2, 16)
    assert job.calibration is not None
    assert job.calibration.num_sequences == 8


def test_uploaded_texts_and_the_token_reach_the_job(http: TestClient, job_store: MemoryJobStore) -> None:
    form = {**FORM, "csrf_token": token_of(http), "hub_token": "hf_abcdefghijklmnop", "visibility": "private"}
    files = {"calibration_text": ("text.txt", "Grüße".encode())}

    http.post("/jobs", data=form, files=files, follow_redirects=False)

    job = job_store.get(only_job(job_store))
    assert job.calibration is not None
    assert job.calibration.sha256 is not None
    assert job_store.text(job.calibration.sha256) == "Grüße"
    assert job.evaluation is None
    assert job.destination.private is True


def test_a_form_that_is_sent_twice_makes_one_job_unless_forced(http: TestClient, job_store: MemoryJobStore) -> None:
    form = {**FORM, "csrf_token": token_of(http)}

    places = [http.post("/jobs", data=form, follow_redirects=False).headers["location"] for _ in range(2)]
    forced = http.post("/jobs", data={**form, "force": "on"}, follow_redirects=False).headers["location"]

    assert places[0] == places[1] != forced
    assert len(job_store.list(JobFilter(), limit=10).jobs) == 2


def test_a_licence_is_acknowledged_on_the_form(http: TestClient, job_store: MemoryJobStore) -> None:
    http.post("/jobs", data={**FORM, "csrf_token": token_of(http), "acknowledge_license": "on"})

    assert job_store.get(only_job(job_store)).acknowledge_license


@pytest.mark.parametrize("path", ["/jobs", "/check"])
def test_a_token_that_no_header_can_carry_is_explained(http: TestClient, path: str) -> None:
    response = http.post(path, data={**FORM, "csrf_token": token_of(http), "hub_token": "é"})

    assert response.status_code in (200, 422)
    assert "printable ASCII" in response.text


def test_a_form_for_a_job_that_would_fail_is_shown_again_with_why(http: TestClient, job_store: MemoryJobStore) -> None:
    response = http.post("/jobs", data={**FORM, "csrf_token": token_of(http), "model_id": "org/none"})

    assert response.status_code == 422
    assert "org/none does not exist" in response.text
    assert job_store.list(JobFilter(), limit=1).jobs == ()


def test_the_bits_of_a_nested_quantizer_can_be_chosen(http: TestClient, job_store: MemoryJobStore) -> None:
    http.post("/jobs", data={**FORM, "csrf_token": token_of(http), "recipe": "srr-max", "num_bits": "4"})

    assert job_store.get(only_job(job_store)).recipe.quantization_bits == 4


def test_every_wrong_field_is_explained_and_what_was_typed_stays(http: TestClient, job_store: MemoryJobStore) -> None:
    form = {**FORM, "csrf_token": token_of(http), "model_id": "no slash", "num_bits": "99", "rank": "x"}

    response = http.post("/jobs", data=form)

    assert response.status_code == 422
    assert 'value="no slash"' in response.text
    assert 'id="model_id-error"' in response.text
    assert "&#39;x&#39; is not a whole number" in response.text
    assert job_store.list(JobFilter(), limit=1).jobs == ()


def test_a_file_that_is_not_text_is_explained(http: TestClient) -> None:
    files = {"calibration_text": ("text.txt", b"\xff\xfe")}

    response = http.post("/jobs", data={**FORM, "csrf_token": token_of(http)}, files=files)

    assert response.status_code == 422
    assert "not UTF-8 text" in response.text


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
    job_store.append_event(job.id, 1, "log", {"message": evil}, worker=finished.WORKER)
    finished.finish(job_store, job, document=finished.report(layer_name=evil))

    pages = [http.get(f"/jobs/{job.id}").text, http.get(f"/jobs/{job.id}/report").text]

    assert all(evil not in page for page in pages)
    assert all("&lt;img src=x" in page for page in pages)


def test_no_page_has_an_inline_script_or_style(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)
    paths = ["/", "/jobs", "/recipes", f"/jobs/{job.id}", f"/jobs/{job.id}/report"]

    pages = "".join(http.get(path).text for path in paths)

    assert not re.search(r"<style|<script(?! src=)|\sstyle=|\son[a-z]+=|javascript:", pages)
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//(?!huggingface\.co/)""", pages) == [
        'href="https://'  # the commit of the one result
    ]


def test_the_report_page_shows_the_numbers(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    page = http.get(f"/jobs/{job.id}/report").text

    assert "9.25" in page
    assert "5.0 MiB" in page
    assert "38.500" in page
    assert "+4.1 %" in page
    assert "outside the repeated blocks" in page


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


def test_a_job_can_be_run_again_with_its_fields_filled_in(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store, model_id="org/again", recipe="qera-exact")

    page = http.get("/", params={"from": job.id}).text

    assert 'value="org/again"' in page
    assert '<option value="qera-exact" selected>' in page


def test_the_preview_names_the_destination_and_the_bits(http: TestClient) -> None:
    text = http.get("/preview", params={"model_id": "org/model", "recipe": "srr", "num_bits": "2"}).text

    assert "org/model-srr-2bit" in text
    assert "<html" not in text


def test_every_recipe_is_on_its_page(http: TestClient) -> None:
    page = http.get("/recipes").text

    assert "srr-iterative" in page
    assert "arXiv:2410.06040" in page


def test_a_form_can_be_checked_without_submitting(
    http: TestClient, job_store: MemoryJobStore, hub_dir: Path, tiny_llama: Path
) -> None:
    FolderHub(hub_dir).import_model(tiny_llama, "org/model")
    form = {**FORM, "csrf_token": token_of(http)}

    page = http.post("/check", data=form).text
    fragment = http.post("/check", data=form, headers={"HX-Request": "true"}).text

    assert "Nothing stands in the way" in page
    assert "LlamaForCausalLM" in fragment
    assert "<html" in page
    assert "<html" not in fragment
    assert job_store.list(JobFilter(), limit=1).jobs == ()


def test_a_check_says_what_stands_in_the_way(http: TestClient) -> None:
    form = {**FORM, "csrf_token": token_of(http)}

    missing = http.post("/check", data={**form, "model_id": "org/none"}, headers={"HX-Request": "true"}).text
    wrong = http.post("/check", data={**form, "rank": "-1"}, headers={"HX-Request": "true"}).text

    assert "model_not_found" in missing
    assert "invalid_form" in wrong
