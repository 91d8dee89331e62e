"""The submit form, as a browser without JavaScript uses it."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter, JobSubmission
from service.jobs.work import CompressWork, JobDestination, JobSource, JobText
from service.web.forms import chosen_recipe, typed_values
from service.web.goals import DEFAULT_GOAL, GOALS
from srr_core.recipe import DEFAULT_RECIPE, named_recipe, override
from tests.service import finished
from tests.service.submitting import submitted
from tests.service.web.visiting import FORM, only_job, token_of
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.usefixtures("org_model")


def work_of(**fields: Any) -> CompressWork:
    """Return a compression of the model that is there."""
    usual = {
        "source": JobSource(model_id="org/model"),
        "destination": JobDestination(repo_id="org/out", private=True),
        "recipe": named_recipe("srr"),
    }
    return CompressWork(**usual | fields)


def test_a_form_becomes_a_job_and_leads_to_its_page(http: TestClient, job_store: MemoryJobStore) -> None:
    form = {**FORM, "csrf_token": token_of(http), "num_bits": "2", "rank": "16", "num_sequences": "8"}

    response = http.post("/jobs", data=form, follow_redirects=False)

    job = job_store.get(only_job(job_store))
    assert (response.status_code, response.headers["location"]) == (303, f"/jobs/{job.id}")
    assert job.work.destination.repo_id == "org/model-srr-15.8bit"  # most of it is kept
    assert (job.work.recipe.quantization_bits, job.work.recipe.rank) == (2, 16)
    assert job.work.calibration is not None
    assert job.work.calibration.num_sequences == 8


def test_uploaded_texts_and_the_token_reach_the_job(http: TestClient, job_store: MemoryJobStore) -> None:
    form = {**FORM, "csrf_token": token_of(http), "hub_token": "hf_abcdefghijklmnop", "visibility": "private"}
    files = {"calibration_text": ("text.txt", "Grüße".encode())}

    http.post("/jobs", data=form, files=files, follow_redirects=False)

    job = job_store.get(only_job(job_store))
    assert job.work.calibration is not None
    assert job.work.calibration.sha256 is not None
    assert job_store.text(job.work.calibration.sha256) == "Grüße"
    assert job.work.evaluation is None
    assert job.work.destination.private is True


def test_the_bits_of_a_nested_quantizer_can_be_chosen(http: TestClient, job_store: MemoryJobStore) -> None:
    http.post("/jobs", data={**FORM, "csrf_token": token_of(http), "recipe": "srr-max", "num_bits": "4"})

    assert job_store.get(only_job(job_store)).work.recipe.quantization_bits == 4


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
        "target": "srr",
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
    chosen = dict(
        re.findall(r'<select id="(\w+)"(?:(?!</select>).)*<option value="([^"]*)" selected>', page, re.DOTALL)
    )
    http.post("/jobs", data={**again, **chosen, "force": "on", "csrf_token": token_of(http)})

    latest = job_store.list(JobFilter(), limit=1).jobs[0]
    kept = {"source", "destination", "recipe", "calibration", "evaluation", "tags"}
    assert latest.id != first
    assert latest.model_dump(include=kept) == job_store.get(first).model_dump(include=kept)


def typed_in(page: str) -> dict[str, str]:
    """Return the fields of the form as a browser would send them."""
    inputs = re.findall(r'<input (?![^>]*"checkbox")(?:type="\w+" )?id="(\w+)" name="\w+"[^>]*? value="([^"]*)"', page)
    ticks = re.findall(r'<input id="(\w+)" name="\w+" type="checkbox" value="(on)" checked', page)
    selects = re.findall(r'<select id="(\w+)"(?:(?!</select>).)*<option value="([^"]*)" selected>', page, re.DOTALL)
    return dict(inputs) | dict(ticks) | dict(selects)


ODD_JOBS: dict[str, CompressWork] = {
    "options without a field": work_of(
        recipe=override(named_recipe("srr"), {"quantizer.exponent": "search", "rank": 7})
    ),
    "a recipe of its own": work_of(recipe=override(named_recipe("gptq"), {"name": "mine", "quantizer.damping": 0.5})),
    "baselines": work_of(recipe=override(named_recipe("srr"), {"baselines": ["gptq"]})),
    "texts": work_of(calibration=JobText(text="mine"), evaluation=JobText(text="yours", num_sequences=3)),
    "windows of one text only": work_of(calibration=JobText(num_sequences=8, sequence_length=64)),
    "a licence that was read": work_of(acknowledge_license=True),
}


@pytest.mark.parametrize("work", ODD_JOBS.values(), ids=ODD_JOBS)
def test_running_again_loses_nothing(http: TestClient, job_store: MemoryJobStore, work: CompressWork) -> None:
    first = submitted(job_store, JobSubmission(work=work, tags=("a", "b"), max_attempts=5), owner="local")

    page = http.get("/", params={"from": first.id}).text
    response = http.post("/jobs", data={**typed_in(page), "force": "on", "csrf_token": token_of(http)})

    assert response.status_code == 200
    latest = job_store.list(JobFilter(), limit=1).jobs[0]
    assert latest.id != first.id
    kept = {"tags": True, "max_attempts": True, "work": {"source": {"sha"}}}
    pinned = latest.work.model_copy(update={"source": first.work.source})
    assert latest.model_copy(update={"work": pinned}).model_dump(include={"tags", "max_attempts", "work"}) == (
        first.model_dump(include=set(kept))
    )


def test_a_change_of_what_has_no_field_is_kept_beside_what_is_typed(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    first = finished.queued(job_store, options={"quantizer": {"exponent": "search"}})

    page = http.get("/", params={"from": first.id}).text
    http.post("/jobs", data={**typed_in(page), "rank": "9", "csrf_token": token_of(http)})

    recipe = job_store.list(JobFilter(), limit=1).jobs[0].work.recipe
    assert "without a field" in page
    assert (recipe.rank, recipe.quantizer.exponent) == (9, "search")


def test_the_name_of_a_job_of_somebody_else_repeats_nothing(http: TestClient, job_store: MemoryJobStore) -> None:
    theirs = finished.queued(job_store, owner="somebody", options={"quantizer": {"exponent": "search"}})

    http.post("/jobs", data={**FORM, "again": theirs.id, "csrf_token": token_of(http)})

    (mine,) = job_store.list(JobFilter(owner="local"), limit=10).jobs
    assert mine.work.recipe == named_recipe("srr")


@pytest.mark.parametrize("goal", GOALS)
def test_a_goal_fills_in_the_form(http: TestClient, goal: str) -> None:
    fields = GOALS[goal].fields

    recipe = chosen_recipe(typed_values({"goal": goal}))
    summary = http.get("/preview", params={"goal": goal, "model_id": "org/model"}).text

    assert (recipe.name, recipe.target) == (fields["recipe"], fields.get("target", "any"))
    assert f"org/model-{recipe.name}" in summary
    assert "notice bad" not in summary


def test_a_goal_becomes_a_job(http: TestClient, job_store: MemoryJobStore) -> None:
    http.post("/jobs", data={**FORM, "recipe": "", "goal": "close", "csrf_token": token_of(http)})

    recipe = job_store.get(only_job(job_store)).work.recipe
    assert recipe.name == "srr-fast"
    assert recipe.budget is not None
    assert recipe.budget.target_kl == 0.02


def test_a_recipe_by_its_name_replaces_the_goal_and_a_typed_size_that_of_the_goal(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    form = {**FORM, "goal": "close", "csrf_token": token_of(http)}
    http.post("/jobs", data={**form, "recipe": "lqer"})
    http.post("/jobs", data={**form, "recipe": "", "target_bits": "3"})

    sized, named = (job.work.recipe for job in job_store.list(JobFilter(), limit=2).jobs)
    assert (named.name, named.budget) == ("lqer", None)
    assert sized.budget is not None
    assert (sized.budget.target_bits, sized.budget.target_kl) == (3.0, None)


def test_empty_fields_show_what_the_recipe_says(http: TestClient) -> None:
    page = http.get("/", params={"recipe": "qera-exact"}).text
    summary = http.get("/preview", params={"recipe": "lqer"}).text

    assert re.search(r'id="rank"[^>]* placeholder="32"', page)
    assert "As the recipe says: Autocorrelation of the inputs (QERA, exact)" in page
    assert '<span data-field="scaling">Largest mean magnitude of each input (LQER)</span>' in summary


def test_a_result_that_no_fast_server_takes_is_warned_of_before_anything_is_typed(http: TestClient) -> None:
    assert "No server takes this result packed" in http.get("/preview", params={"recipe": "qlora"}).text
    assert "No server takes this result packed" not in http.get("/preview", params={"goal": "vllm"}).text


def test_a_warning_of_the_summary_is_not_repeated_by_the_check(http: TestClient) -> None:
    form = {**FORM, "recipe": "qlora", "csrf_token": token_of(http)}

    page = http.post("/check", data=form).text

    assert page.count("No server takes this result packed") == 1


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
    assert "You already have this job" in http.get(second).text
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

    assert f'name="goal" value="{DEFAULT_GOAL}" checked' in page
    assert GOALS[DEFAULT_GOAL].fields["recipe"] == DEFAULT_RECIPE
    assert f"{DEFAULT_RECIPE} is proposed because" in page
    assert "All recipes" in page


def test_the_preview_names_the_destination_and_the_bits(http: TestClient) -> None:
    text = http.get("/preview", params={"model_id": "org/model", "recipe": "srr", "num_bits": "2"}).text

    assert "org/model-srr-25.8bit" in text  # the rank is as wide as its layers
    assert "<html" not in text


def test_a_form_can_be_checked_without_submitting(
    http: TestClient, job_store: MemoryJobStore, hub_dir: Path, tiny_llama: Path
) -> None:
    FolderHub(hub_dir).import_model(tiny_llama, "org/model")
    form = {**FORM, "csrf_token": token_of(http)}

    page = http.post("/check", data=form).text
    fragment = http.post("/check", data=form, headers={"HX-Request": "true"}).text

    assert "Ready to submit" in page
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


def test_a_form_that_comes_back_is_still_a_new_job(http: TestClient) -> None:
    page = http.post("/jobs", data={**FORM, "model_id": "x", "csrf_token": token_of(http)}).text

    assert re.findall(r'aria-current="\w+">(\w[\w ]*)<', page) == [
        "New job",
        "New job",
        "Compress",
    ]  # in both menus, and the tab


def test_a_licence_is_acknowledged_on_the_form(http: TestClient, job_store: MemoryJobStore) -> None:
    http.post("/jobs", data={**FORM, "csrf_token": token_of(http), "acknowledge_license": "on"})

    assert job_store.get(only_job(job_store)).work.acknowledge_license


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
