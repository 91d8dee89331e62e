"""The Python client against the real application, over a real socket."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from service.client import ApiError, Client, JobFailedError, UnreachableError
from service.edge.callers import KeyHolders
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobState
from service.jobs.uploads import TextUploads
from service.jobs.work import FinetuneWork, JobDestination, StoredText
from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES, KeyCreate
from service.keys.store import KeyStore
from service.settings import ServiceSettings
from tests.service import finished
from tests.service.api.test_conversions import give
from tests.service.models import write_tuned
from tests.service.serving import served
from tests.srr_core.telling import reports
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.usefixtures("org_model")


@pytest.fixture
def url(application: FastAPI) -> Iterator[str]:
    """The address of the application, served for real."""
    with served(application) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of the application."""
    with Client(url) as client:
        yield client


def test_a_job_is_submitted_listed_canceled_and_retried(client: Client) -> None:
    job = client.submit("org/model", destination="org/out", recipe={"name": "srr", "rank": 4}, tags=("nightly",))

    assert client.job(job.id).recipe.rank == 4
    assert [one.id for one in client.jobs(model_id="org/model")] == [job.id]
    assert client.cancel(job.id).state == "canceled"
    assert client.retry(job.id).attempt == 2


def test_workers_are_listed(client: Client) -> None:
    listed = client.workers()

    assert (listed.workers, listed.queue_depth) == ([], 0)


def test_the_same_key_gives_the_same_job_however_often_it_is_sent(client: Client) -> None:
    first = client.submit("org/model", destination="org/out", idempotency_key="key-1")
    second = client.submit("org/model", destination="org/out", idempotency_key="key-1")

    assert second.id == first.id


def test_every_page_of_a_list_is_read(client: Client, job_store: MemoryJobStore) -> None:
    jobs = [finished.queued(job_store, model_id=f"org/model-{number}") for number in range(45)]

    assert {job.id for job in client.jobs()} == {job.id for job in jobs}


def test_a_refusal_is_an_error_with_the_problem_and_the_fields(client: Client) -> None:
    with pytest.raises(ApiError, match=r"body\.source\.model_id") as refused:
        client.submit("nonsense", destination="org/out")

    assert (refused.value.problem.status, refused.value.problem.code) == (422, "invalid_request")


def test_waiting_returns_the_job_and_its_report(client: Client, job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)
    worker = threading.Timer(0.2, finished.finish, args=(job_store, job))
    worker.start()

    done = client.wait(job.id)

    worker.join()
    assert done.result is not None
    assert client.report(job.id) == finished.report()


def test_waiting_for_a_job_that_fails_tells_why(client: Client, job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store, message="the model is gated")

    with pytest.raises(JobFailedError, match="the model is gated"):
        client.wait(job.id)


def test_events_and_logs_tell_the_same_story(client: Client, job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    assert list(client.events(job.id)) == list(client.logs(job.id))
    assert next(client.events(job.id, after=3)).sequence == 4


def test_jobs_are_filtered_and_read_page_by_page(client: Client, job_store: MemoryJobStore) -> None:
    queued, failed = finished.queued(job_store, recipe="lqer"), finished.failed(job_store)

    page = client.job_page(limit=1)

    assert [job.id for job in client.jobs(recipe="lqer")] == [queued.id]
    assert [job.id for job in client.jobs(state=[JobState.FAILED, JobState.RUNNING])] == [failed.id]
    assert list(client.jobs(created_before=queued.created_at)) == []
    assert [job.id for job in client.jobs(created_after=queued.created_at, limit=1)] == [failed.id, queued.id]
    assert [job.id for job in page.jobs] == [failed.id]
    assert [job.id for job in client.job_page(cursor=page.next_cursor).jobs] == [queued.id]


def test_watches_endpoints_and_usage_are_looked_after(client: Client) -> None:
    watch = client.create_watch({"name": "w", "pattern": "org/*", "recipes": ["srr"], "destination": "me/{name}"})
    endpoint = client.create_endpoint({"url": "https://1.1.1.1/hook"})

    assert [one.id for one in client.watches()] == [watch.id]
    assert [one.id for one in client.endpoints()] == [endpoint.endpoint.id]
    client.delete_watch(watch.id)
    client.delete_endpoint(endpoint.endpoint.id)

    assert (client.watches(), client.endpoints(), client.usage().queued) == ((), (), 0)


def test_a_model_is_inspected_and_a_submission_validated(client: Client, hub_dir: Path, tiny_llama: Path) -> None:
    FolderHub(hub_dir).import_model(tiny_llama, "org/model")

    assert client.inspect("org/model").architectures == ("LlamaForCausalLM",)
    assert client.validate("org/model", destination="me/out").valid


def test_a_fine_tuning_is_submitted_with_everything_it_takes(client: Client, job_store: MemoryJobStore) -> None:
    job = client.finetune(
        "org/model",
        destination="org/tuned",
        data={"text": finished.ROWS, "format": "jsonl"},
        tuning={"start": "srr", "task": "instructions", "rank": 4},
        validation={"text": finished.ROWS * 2},
        calibration="a text to calibrate on",
        neutral="a neutral text",
        private=True,
        acknowledge_license=True,
        tags=("nightly",),
    )

    work = job_store.get(job.id).work
    assert isinstance(work, FinetuneWork)
    assert (job.kind, job.tags, work.destination.repo_id, work.destination.private) == (
        "finetune",
        ("nightly",),
        "org/tuned",
        True,
    )
    texts = (work.data, work.validation, work.calibration, work.neutral)
    assert [job_store.text(str(text.sha256)) for text in texts if isinstance(text, StoredText)] == [
        finished.ROWS,
        finished.ROWS * 2,
        "a text to calibrate on",
        "a neutral text",
    ]
    assert (work.tuning.task.kind, work.acknowledge_license) == ("instructions", True)
    assert work.tuning.optimizer.learning_rate == 2e-4  # what "auto" is, said back


def test_long_rows_are_uploaded_and_named(client: Client, job_store: MemoryJobStore, engine: Engine) -> None:
    rows = finished.ROWS * 500

    job = client.finetune("org/model", destination="org/tuned", data={"text": rows}, tuning={"task": "instructions"})

    data = job_store.get(job.id).work.model_dump()["data"]
    assert TextUploads(engine).of("local").text(data["sha256"]) == rows


def test_rows_in_a_dataset_of_the_hub_are_named(client: Client, job_store: MemoryJobStore) -> None:
    data = {"dataset": "org/rows", "revision": "a" * 40, "path": "train.jsonl"}

    job = client.finetune("org/model", destination="org/tuned", data=data, tuning={"task": "instructions"})

    assert job_store.get(job.id).work.model_dump(mode="json")["data"] == data


def test_rows_that_cannot_be_learned_are_refused_with_their_number(client: Client) -> None:
    with pytest.raises(ApiError, match="row 3"):
        client.finetune(
            "org/model",
            destination="org/tuned",
            data={"text": finished.ROWS + '{"prompt": "only"}\n'},
            tuning={"task": "instructions"},
        )


def test_the_reports_of_other_kinds_are_read(client: Client, job_store: MemoryJobStore) -> None:
    assert client.tuning(finished.tuned(job_store).id) == finished.tuning()
    assert client.evaluation(finished.measured(job_store).id) == finished.evaluation()
    assert client.conversion(finished.converted(job_store).id) == finished.conversion()


def test_a_conversion_is_queued_or_refused_with_what_would_do(client: Client, hub: FolderHub, tmp_path: Path) -> None:
    give(hub, tmp_path / "artifact", reports.report(is_stock=False))

    job = client.convert("org/model-srr", target={"kind": "merged", "dtype": "float16"}, destination="org/dense")
    with pytest.raises(ApiError, match="Convert it to merged instead"):
        client.convert("org/model-srr", target="gptq", destination="org/other")

    assert (job.kind, job.work.destination_id) == ("convert", "org/dense")


def test_the_series_and_checkpoints_of_a_training_are_read(client: Client, job_store: MemoryJobStore) -> None:
    job = finished.training(job_store)

    assert [point.values["loss"] for point in client.metrics(job.id).cells[0].training] == [2.5]
    assert [(row.step, row.is_best) for row in client.checkpoints(job.id)] == [(1, True)]


def test_runs_are_compared_and_a_checkpoint_is_published(
    client: Client, job_store: MemoryJobStore, hub: FolderHub, tmp_path: Path
) -> None:
    sha = hub.import_model(write_tuned(tmp_path / "tuned", kept=1), "org/model-tuned")
    job = finished.tuned(job_store, kept=(1,), sha=sha)

    (run,) = client.compare_finetunings([job.id])
    published = client.publish_checkpoint(job.id, 1, destination="org/first-step", private=True)

    assert (run.start, run.best) == ("srr on mxint, 3.25 bits per weight in Q", 2.125)
    assert client.kept_checkpoints(job.id) == (1,)
    assert isinstance(published.work, FinetuneWork)
    assert published.work.destination == JobDestination(repo_id="org/first-step", private=True)


def test_nobody_there_is_said(client: Client) -> None:
    with Client("http://127.0.0.1:9") as nobody, pytest.raises(UnreachableError, match="no service answers"):
        nobody.recipes()


class TestWithKeys:
    """A service that wants keys."""

    @pytest.fixture
    def settings(self) -> ServiceSettings:
        """Settings that ask for a key."""
        return ServiceSettings(sign_in="keys")

    def test_the_key_is_sent_along(self, url: str, application: FastAPI, keys: KeyStore) -> None:
        text = issue_key(keys, name="test", owner="ann", scopes=("jobs:read",), lifetime=timedelta(days=1)).text

        with Client(url) as anonymous, Client(url, api_key=text) as ann:
            with pytest.raises(ApiError) as refused:
                list(anonymous.jobs())
            assert list(ann.jobs()) == []

        assert refused.value.problem.code == "sign_in_required"
        assert isinstance(application.state.services.callers, KeyHolders)

    def test_keys_are_made_listed_and_revoked(self, url: str, keys: KeyStore) -> None:
        text = issue_key(keys, name="test", owner="ann", scopes=ALL_SCOPES, lifetime=timedelta(days=1)).text

        with Client(url, api_key=text) as ann:
            made = ann.create_key(KeyCreate(name="nightly", scopes=("jobs:read",), max_queued=2))
            revoked = ann.revoke_key(made.key.id)
            listed = ann.keys().keys

        assert made.key.quota.max_queued == 2
        assert revoked.revoked_at is not None
        assert [key.name for key in listed] == ["nightly", "test"]
