"""The form of a fine-tuning and the pages of its job, without a script."""

import re

import pytest
from fastapi.testclient import TestClient

from service.jobs.checkpoints import publication
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter, JobState
from service.jobs.tuned_runs import RunPoint, TunedRun
from service.jobs.work import FinetuneWork, JobDestination, TrainingData
from service.web.comparing_tunings import runs_chart
from service.web.finetune_form import guessed_format, values_of
from tests.service import finished
from tests.service.submitting import submitted
from tests.service.web.visiting import only_job, token_of

pytestmark = pytest.mark.usefixtures("org_model")
TYPED = {
    "model_id": "org/model",
    "start": "srr",
    "task": "instructions",
    "rank": "4",
    "learning_rate": "1e-3",
    "epochs": "2",
    "fields": "start.recipe.quantizer.num_bits=2\noptimizer.weight_decay=0.01",
    "repo_id": "org/model-tuned",
}


def post(http: TestClient, path: str = "/finetune", **changes: str) -> str:
    data = {**TYPED, **changes, "csrf_token": token_of(http, "/finetune")}
    return http.post(path, data=data, files={"data": ("rows.jsonl", finished.ROWS)}).text


def test_the_form_becomes_a_fine_tuning(http: TestClient, job_store: MemoryJobStore) -> None:
    post(http)

    work = job_store.get(only_job(job_store)).work
    assert isinstance(work, FinetuneWork)
    assert isinstance(work.data, TrainingData)
    assert job_store.text(str(work.data.sha256)) == finished.ROWS
    tuning = work.tuning
    assert (tuning.optimizer.learning_rate, tuning.optimizer.weight_decay) == (1e-3, 0.01)
    assert (work.recipe_name, tuning.start.recipe.rank, tuning.start.recipe.quantization_bits) == ("srr", 4, 2)
    assert (tuning.schedule.epochs, tuning.task.kind, work.data.format) == (2, "instructions", "jsonl")


def test_running_a_fine_tuning_again_loses_nothing(http: TestClient, job_store: MemoryJobStore) -> None:
    files = {"data": ("rows.jsonl", finished.ROWS), "neutral": ("neutral.txt", "Plain words to measure on.")}
    http.post("/finetune", data={**TYPED, "tags": "nightly", "csrf_token": token_of(http, "/finetune")}, files=files)
    first = job_store.get(only_job(job_store))
    assert isinstance(first.work, FinetuneWork)

    form = http.get(f"/?from={first.id}")
    typed = values_of(first.work, job=first) | {"csrf_token": token_of(http, "/finetune")}
    checked = http.post("/finetune/check", data=typed).text
    answer = http.post("/finetune", data={**typed, "force": "on"})

    assert form.url.path == "/finetune"
    assert "Its texts are used again" in form.text
    assert f'name="again" value="{first.id}"' in form.text
    assert "start.recipe.quantizer.num_bits=2" in form.text
    assert 'value="srr" selected' in form.text
    assert "say 1" in checked
    assert answer.status_code == 200
    latest = job_store.list(JobFilter(), limit=1).jobs[0]
    assert latest.id != first.id
    assert latest.work == first.work
    assert latest.tags == first.tags == ("nightly",)


def test_rows_that_are_chosen_take_the_place_of_those_of_before(http: TestClient, job_store: MemoryJobStore) -> None:
    post(http)
    first = job_store.get(only_job(job_store))
    other = finished.ROWS.replace("say", "shout")

    data = {**TYPED, "again": first.id, "csrf_token": token_of(http, "/finetune")}
    http.post("/finetune", data=data, files={"data": ("rows.jsonl", other)})

    work = job_store.list(JobFilter(), limit=1).jobs[0].work
    assert isinstance(work, FinetuneWork)
    assert isinstance(work.data, TrainingData)
    assert job_store.text(str(work.data.sha256)) == other


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"model_id": "nobody"}, "model_id", "Write it as organization/name"),
        ({"repo_id": ""}, "repo_id", "Write it as organization/name"),
        ({"rank": "many"}, "rank", "not a whole number"),
        ({"learning_rate": "2"}, "learning_rate", "between 0 and 1"),
        ({"start": "other"}, "start", "unknown start"),
        ({"fields": "optimiser.x=1"}, "fields", "optimiser"),
        ({"fields": "nothing"}, "fields", "PATH=VALUE"),
        (
            {"dataset": "org/rows", "dataset_revision": "main", "dataset_path": "a.jsonl"},
            "dataset_revision",
            "40 digits",
        ),
    ],
)
def test_a_wrong_field_is_shown_with_what_was_typed(
    http: TestClient, job_store: MemoryJobStore, changes: dict[str, str], field: str, said: str
) -> None:
    page = post(http, **changes)

    assert said.lower() in page.lower()
    assert f'id="{field}-error"' in page


def test_rows_are_needed(http: TestClient) -> None:
    page = http.post("/finetune", data={**TYPED, "csrf_token": token_of(http, "/finetune")})

    assert page.status_code == 422
    assert "Choose a file, or name a dataset of the Hub." in page.text


def test_checking_shows_what_would_be_learned_and_submits_nothing(http: TestClient) -> None:
    page = post(http, "/finetune/check")

    assert "<mark>well</mark>" in page
    assert "Ready to submit" in page
    assert re.search(r"<dt>Parameters that learn</dt><dd>[\d.]+", page)
    assert "No job yet" in http.get("/jobs").text


def test_checking_names_the_row_that_cannot_be_learned(http: TestClient) -> None:
    data = {**TYPED, "csrf_token": token_of(http, "/finetune")}
    rows = finished.ROWS + '{"prompt": "only"}\n'

    page = http.post("/finetune/check", data=data, files={"data": ("rows.jsonl", rows)}).text

    assert "row 3" in page
    assert "Ready to submit" not in page


@pytest.mark.parametrize(
    ("text", "task", "expected"),
    [
        ('{"text": "a"}', "text", "jsonl"),
        ("Plain words.", "text", "text"),
        ("text\tlabel\na\t1", "classification", "tsv"),
        ("text,label\na,1", "classification", "csv"),
    ],
)
def test_the_format_shows_in_the_first_line(text: str, task: str, expected: str) -> None:
    assert guessed_format(text, task=task) == expected


def test_the_page_of_a_running_job_shows_its_training(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.training(job_store)

    page = http.get(f"/jobs/{job.id}").text

    assert "step 1 of 2, 1 of 2 trainings" in page
    assert "2.5000" in page
    assert "<polyline" in page
    assert "2.0 MiB" in page
    assert "<mark>well</mark>" in page


def test_the_pages_of_a_finished_job_show_what_it_learned(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.tuned(job_store)

    page = http.get(f"/jobs/{job.id}").text
    assert "2.3750" in page
    assert "2.1250" in page
    assert f'href="/evaluate?from={job.id}"' in page
    report = http.get(f"/jobs/{job.id}/report").text
    assert "learning rate 0.0003, seed 0; step 2 of 2 is published" in report
    assert "Fine-tuning" in http.get("/jobs").text


def test_a_kept_checkpoint_can_be_published_or_go_on_learning(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.tuned(job_store, kept=(1,))

    pages = [http.get(path).text for path in (f"/jobs/{job.id}", f"/jobs/{job.id}/report")]
    publish = http.get(f"/finetune?from={job.id}&checkpoint=1&publish=1").text
    going_on = http.get(f"/finetune?from={job.id}&checkpoint=1").text

    assert all(f'href="/finetune?from={job.id}&amp;checkpoint=1&amp;publish=1"' in page for page in pages)
    assert all('value="org/model-tuned"' in form for form in (publish, going_on))
    assert all("start.checkpoint=1" in form for form in (publish, going_on))
    assert re.search(r'name="max_steps"[^>]*value="0"|value="0"[^>]*name="max_steps"', publish)
    assert not re.search(r'name="max_steps"[^>]*value="0"|value="0"[^>]*name="max_steps"', going_on)


def test_a_checkpoint_that_is_published_as_it_is_says_so(http: TestClient, job_store: MemoryJobStore) -> None:
    done = finished.tuned(job_store, kept=(1,))
    publishing = publication(
        done, 1, destination=JobDestination(repo_id="org/first"), kept=(1,), read_text=job_store.text
    )
    job = submitted(job_store, publishing, owner="local")

    page, listed = http.get(f"/jobs/{job.id}").text, http.get("/jobs").text

    assert "an artifact, from its checkpoint of step 1" in page
    assert "none: published as it is" in page
    assert "instructions, published as it is" in listed


def test_a_finished_result_can_go_on_learning(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    form = http.get(f"/finetune?from={job.id}").text

    assert 'value="org/model-srr"' in form
    assert 'value="artifact" selected' in form


def test_fine_tunings_are_compared_whether_they_have_ended_or_not(http: TestClient, job_store: MemoryJobStore) -> None:
    done, going = finished.tuned(job_store), finished.training(job_store)

    page = http.get("/compare/finetunings").text

    assert page.count('class="mark"') == 2 * 2
    assert all(f'href="/jobs/{job.id}"' in page for job in (done, going))
    assert "2.1250" in page
    assert "1 of 2" in page
    assert page.count(" checked>") == 2


def test_chosen_fine_tunings_are_shown_and_the_others_offered(http: TestClient, job_store: MemoryJobStore) -> None:
    first, second = finished.tuned(job_store), finished.tuned(job_store)

    page = http.get("/compare/finetunings", params={"job": first.id}).text

    assert page.count('class="mark"') == 2
    assert f'name="job" value="{second.id}">' in page
    assert f'href="/compare/finetunings?job={first.id}"' in http.get(f"/jobs/{first.id}/report").text


def test_what_is_no_fine_tuning_is_not_compared(http: TestClient, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    assert "No fine-tuning yet" in http.get("/compare/finetunings").text
    assert http.get("/compare/finetunings", params={"job": job.id}).status_code == 422


def test_numbers_at_the_ends_of_curves_do_not_cover_each_other() -> None:
    run = TunedRun(
        job_id="job_" + "0" * 26,
        state=JobState.RUNNING,
        model_id="org/model",
        start="srr",
        task="text",
        bits=2.5,
        rank=8,
        learning_rate=1e-3,
        seed=0,
        steps=10,
        planned=10,
        metric="loss",
        is_higher_better=False,
        before=2.0,
        best=1.0,
        best_step=10,
        deviation=None,
        seeds=1,
        drift=None,
        data_sha256=None,
        validation=(RunPoint(step=0, value=2.0), RunPoint(step=10, value=1.0)),
        training=(),
    )

    chart = runs_chart([run, run, run.model_copy(update={"metric": "accuracy"})])

    assert chart is not None
    assert [curve.number for curve in chart.curves] == [1, 2]
    one, other = chart.curves
    assert (one.points, one.y) == (other.points, other.y)
    assert abs(one.badge_y - other.badge_y) >= 18
