"""Fine-tunings of a service on the command line: submitted, checked, compared, their checkpoints published."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from service.jobs.work import DatasetFile, FinetuneWork, StoredText
from srr_core.recipe.tuning import RecipeStart
from tests.service import finished
from tests.service.command_line import Command, command_of
from tests.service.serving import served

pytestmark = pytest.mark.usefixtures("org_model")


@pytest.fixture
def srr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process, from its entry point to its exit code."""
    return command_of(monkeypatch, capsys)


@pytest.fixture
def url(application: FastAPI) -> Iterator[str]:
    """The address of the application, served for real."""
    with served(application) as url:
        yield url


def test_a_fine_tuning_is_submitted_with_its_options(
    srr: Command, url: str, job_store: MemoryJobStore, tmp_path: Path
) -> None:
    rows, text = tmp_path / "rows.jsonl", tmp_path / "text.txt"
    rows.write_text(finished.ROWS)
    text.write_text("a text")
    arguments = ("submit-finetuning", "org/model", str(rows), "org/tuned", "--url", url)

    done = srr(
        *(*arguments, "--task", "instructions", "--start", "srr", "--rank", "4", "--seed", "7"),
        *("--set", "optimizer.learning_rate=3e-4", "--validation-data", str(rows), "--neutral-text", str(text)),
        *("--calibration-text", str(text), "--tag", "nightly", "--private"),
    )

    assert (done.returncode, done.stderr) == (0, "")
    job = job_store.get(done.stdout.strip())
    work = job.work
    assert isinstance(work, FinetuneWork)
    assert isinstance(work.tuning.start, RecipeStart)
    assert (work.tuning.start.recipe.name, work.tuning.start.recipe.rank, work.tuning.seed) == ("srr", 4, 7)
    assert (work.tuning.task.kind, work.tuning.optimizer.learning_rate) == ("instructions", 3e-4)
    assert (work.destination.repo_id, work.destination.private, job.tags) == ("org/tuned", True, ("nightly",))
    texts = (work.data, work.validation, work.calibration, work.neutral)
    assert [job_store.text(str(one.sha256)) for one in texts if isinstance(one, StoredText)] == [
        finished.ROWS,
        finished.ROWS,
        "a text",
        "a text",
    ]


def test_a_fine_tuning_is_checked_without_being_submitted(
    srr: Command, url: str, job_store: MemoryJobStore, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(finished.ROWS)
    arguments = ("submit-finetuning", "org/model", str(rows), "org/tuned", "--task", "instructions", "--rank", "4")

    found = srr(*arguments, "--check", "--url", url)
    refused = srr(*arguments, "--check", "--set", "start.kind=artifact", "--url", url)

    assert (found.returncode, found.stderr) == (0, "")
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["rows", "steps", "learning", "memory"]
    assert "1,280 parameters in 4 layers" in found.stdout
    assert "no artifact of this service" in " ".join(refused.stderr.split())
    assert refused.returncode != 0
    assert job_store.list(JobFilter(), limit=10).jobs == ()


def test_fine_tunings_are_compared_and_what_was_not_kept_is_said(
    srr: Command, url: str, job_store: MemoryJobStore
) -> None:
    done, going = finished.tuned(job_store), finished.training(job_store)

    compared = srr("compare-finetunings", done.id, going.id, "--url", url)
    refused = srr("publish-checkpoint", done.id, "1", "org/first-step", "--url", url)

    assert (compared.returncode, compared.stderr) == (0, "")
    assert [line.split()[0] for line in compared.stdout.splitlines()[1:]] == [done.id, going.id]
    assert "2.1250" in compared.stdout
    assert refused.returncode != 0
    assert "checkpoints.publish is true" in " ".join(refused.stderr.split())


def test_rows_of_a_dataset_are_submitted_by_their_commit(srr: Command, url: str, job_store: MemoryJobStore) -> None:
    place = f"hub:org/rows@{'a' * 40}/data/train.csv"

    done = srr("submit-finetuning", "org/model", place, "org/tuned", "--task", "instructions", "--url", url, "--json")

    work = job_store.get(json.loads(done.stdout)["id"]).work
    assert isinstance(work, FinetuneWork)
    assert work.data == DatasetFile(dataset="org/rows", revision="a" * 40, path="data/train.csv")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("hub:org/rows", "hub:ORG/DATASET@COMMIT/PATH"),
        ("rows.parquet", "a job takes .jsonl"),
        ("absent.jsonl", "absent.jsonl"),
    ],
)
def test_data_that_a_job_cannot_take_is_refused_before_anything_is_sent(srr: Command, data: str, words: str) -> None:
    done = srr("submit-finetuning", "org/model", data, "org/tuned", "--url", "http://127.0.0.1:9")

    assert done.returncode == 2
    assert words in done.stderr


def test_waiting_for_a_fine_tuning_ends_with_its_scores(
    srr: Command, url: str, job_store: MemoryJobStore, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(finished.ROWS)

    def work() -> None:
        while not (page := job_store.unsent()):
            pass
        claim = job_store.claim(page[0].job_id, 1, worker=finished.WORKER, lasts=finished.LEASE)
        assert claim is not None
        finished.finish(job_store, claim.job, document=finished.tuning())

    worker = threading.Thread(target=work)
    worker.start()

    done = srr(
        *("submit-finetuning", "org/model", str(rows), "org/model-tuned", "--task", "instructions"),
        *("--url", url, "--wait"),
    )

    worker.join()
    assert done.returncode == 0
    assert "2.3750 → 2.1250" in done.stdout
    assert "learning rate 0.0003, seed" in done.stdout
