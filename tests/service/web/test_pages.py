"""The pages, as a browser without JavaScript uses them."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.jobs.credentials import CredentialVault
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from srr_core.recipe import DEFAULT_RECIPE
from tests.service import finished
from worker.folder_hub import FolderHub

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
    assert set(re.findall(r"""(?:src|href)=["']((?:https?:)?//[^"']+)""", pages)) == {
        f"https://huggingface.co/org/model/tree/{finished.SHA}",
        "https://hub.example/commit/b",
    }


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


def test_running_again_repeats_every_choice(http: TestClient, job_store: MemoryJobStore) -> None:
    form = {
        **FORM,
        "repo_id": "us/another-name",
        "visibility": "private",
        "num_bits": "4",
        "group_size": "16",
        "rank": "7",
        "scaling": "diagonal",
        "rank_selector": "verified",
        "seed": "11",
        "evaluation": "off",
        "num_sequences": "8",
        "sequence_length": "64",
        "tags": "nightly, llama",
    }
    http.post("/jobs", data={**form, "csrf_token": token_of(http)})
    first = only_job(job_store)

    page = http.get("/", params={"from": first}).text
    again = dict(re.findall(r'<input id="(\w+)" name="\w+"(?: type="\w+")?(?: [\w-]+="\w*")*? value="([^"]*)"', page))
    chosen = dict(re.findall(r'<select id="(\w+)".*?<option value="([^"]*)" selected>', page, re.DOTALL))
    http.post("/jobs", data={**again, **chosen, "force": "on", "csrf_token": token_of(http)})

    latest = job_store.list(JobFilter(), limit=1).jobs[0]
    kept = {"source", "destination", "recipe", "calibration", "evaluation", "tags"}
    assert latest.id != first
    assert latest.model_dump(include=kept) == job_store.get(first).model_dump(include=kept)


def test_a_recipe_the_form_cannot_say_is_not_passed_off_as_repeated(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    known = finished.queued(job_store)
    damped = finished.queued(job_store, options={"quantizer": {"exponent": "search"}})

    assert "no fields for" not in http.get("/", params={"from": known.id}).text
    assert "no fields for" in http.get("/", params={"from": damped.id}).text


def test_the_form_repeats_nothing_of_a_job_of_somebody_else(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.queued(job_store, model_id="org/secret", owner="somebody")

    response = http.get("/", params={"from": job.id}, headers={"Accept": "text/html"})

    assert response.status_code == 404
    assert "org/secret" not in response.text


def test_the_same_form_twice_leads_to_the_same_job_unless_forced(
    http: TestClient, job_store: MemoryJobStore, hub_dir: Path, tiny_llama: Path
) -> None:
    FolderHub(hub_dir).import_model(tiny_llama, "org/model")
    form = {**FORM, "csrf_token": token_of(http)}

    first = http.post("/jobs", data=form, follow_redirects=False).headers["location"]
    second = http.post("/jobs", data=form, follow_redirects=False).headers["location"]
    forced = http.post("/jobs", data={**form, "force": "on"}, follow_redirects=False).headers["location"]

    assert second == f"{first}?same=1"
    assert "You have this job already" in http.get(second).text
    assert forced not in (first, second)


@pytest.mark.parametrize(
    ("field", "typed", "message"),
    [
        ("group_size", "128", "One of 16 or 32."),
        ("num_bits", "99", "At most 8."),
        ("rank", "-1", "At least 0."),
        ("scaling", "magic", "One of identity, lqer, diagonal, autocorrelation."),
        ("tags", "no/slash", "Words of letters, digits"),
        ("repo_id", "no slash", "Write it as organization/name"),
    ],
)
def test_a_wrong_field_gets_a_sentence_of_its_own(http: TestClient, field: str, typed: str, message: str) -> None:
    response = http.post("/jobs", data={**FORM, field: typed, "csrf_token": token_of(http)})

    assert response.status_code == 422
    assert re.search(rf'id="{field}-error">{re.escape(message)}', response.text)
    assert "<details open>" in response.text or field == "repo_id"


def test_the_form_says_why_it_proposes_what_it_proposes(http: TestClient) -> None:
    page = http.get("/").text

    assert f'<option value="{DEFAULT_RECIPE}" selected>' in page
    assert f"{DEFAULT_RECIPE} is proposed because" in page
    assert "All recipes" in page


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

    missing = http.post("/check", data=form, headers={"HX-Request": "true"}).text
    wrong = http.post("/check", data={**form, "rank": "-1"}, headers={"HX-Request": "true"}).text

    assert "model_not_found" in missing
    assert "invalid_form" in wrong


def test_half_a_name_is_no_mistake_while_it_is_typed(http: TestClient) -> None:
    form = {**FORM, "model_id": "org", "csrf_token": token_of(http)}

    assert http.post("/check", data=form, headers={"HX-Request": "true"}).text.strip() == ""


def test_a_check_tells_what_the_job_would_take_and_where_the_result_runs(
    http: TestClient, hub_dir: Path, tiny_llama: Path
) -> None:
    FolderHub(hub_dir).import_model(tiny_llama, "org/model")
    form = {**FORM, "csrf_token": token_of(http)}

    corrected = http.post("/check", data=form, headers={"HX-Request": "true"}).text
    plain = http.post("/check", data={**form, "recipe": "weight-only"}, headers={"HX-Request": "true"}).text

    assert re.search(r"Disk while it works</dt><dd>[\d.]+ \w?i?B", corrected)
    assert "Not known before a first job" in corrected
    assert "vLLM --enable-lora" in corrected
    assert "vLLM --enable-lora" not in plain


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

    job_store.claim(job.id, 2, worker=finished.WORKER, lease=finished.LEASE)
    sealed = job_store.credential(job.id, 2, worker=finished.WORKER)
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
    assert "There is nothing here" in response.text
    assert "Not Found" not in response.text


@pytest.mark.parametrize(
    ("path", "place"), [("/jobs", "Jobs"), ("/jobs?state=failed", "Jobs"), ("/watches/new", "Watches")]
)
def test_the_menu_marks_where_one_is(http: TestClient, path: str, place: str) -> None:
    assert set(re.findall(r'aria-current="\w+">(\w[\w ]*)<', http.get(path).text)) == {place}


def test_a_form_that_comes_back_is_still_a_new_job(http: TestClient) -> None:
    page = http.post("/jobs", data={**FORM, "model_id": "x", "csrf_token": token_of(http)}).text

    assert set(re.findall(r'aria-current="\w+">(\w[\w ]*)<', page)) == {"New job"}


def test_pages_that_alerts_send_people_to_are_in_the_menu(http: TestClient) -> None:
    alerts = (Path(__file__).parents[3] / "docker" / "monitoring" / "alerts.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"\bpage ([A-Z]\w+)", alerts, re.IGNORECASE))

    assert named
    assert named <= set(re.findall(r'<li><a href="[^"]+"[^>]*>([^<]+)</a>', http.get("/").text))
