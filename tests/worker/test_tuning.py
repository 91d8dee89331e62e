"""A fine-tuning as a job: data checked first, told step by step, resumed to the same bits, published whole."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from service.jobs.schema import Job, JobState, Lease
from service.jobs.work import DatasetFile, FinetuneWork, JobDestination, JobSource, StoredText, TrainingData
from srr_core.errors import StopRequested, TrainingDataError
from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.tuning_options import with_fields, with_rank, with_start, with_task
from srr_core.runtime import load
from srr_core.tuners.report import TuningReport
from tests.pico import build_checkpoint, write_text
from tests.worker.shop import Shop

ROWS = "".join(json.dumps({"prompt": f"say {i}", "completion": f"well {i}"}) + "\n" for i in range(24))
CHANGES: dict[str, Any] = {
    "start.recipe.calibration.num_sequences": 4,
    "start.recipe.calibration.sequence_length": 16,
    "data.window": 64,
    "schedule.epochs": 2,
    "batch.size": 1,
    "batch.packing": False,
    "checkpoints.save_every": 3,
}
DESTINATION = JobDestination(repo_id="me/tuned")


def spec(**changes: Any) -> TuningSpec:
    chosen = with_task(with_rank(with_start(TuningSpec(), "srr"), 4), "instructions")
    return with_fields(chosen, CHANGES | changes).resolved()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("model") / "model", dtype=torch.float32)


@pytest.fixture
def shop(model: Path, tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.source.import_model(model, "acme/base")
    return shop


def work(shop: Shop, **fields: Any) -> FinetuneWork:
    text = StoredText(text=write_text(shop.folder / "text.txt").read_text())
    defaults: dict[str, Any] = {
        "source": JobSource(model_id="acme/base"),
        "destination": DESTINATION,
        "tuning": spec(),
        "data": TrainingData(text=ROWS),
        "calibration": text,
        "neutral": text,
    }
    return FinetuneWork(**(defaults | fields))


def told(shop: Shop, job: Job, kind: Any) -> list[dict[str, Any]]:
    return [event.data for event in shop.store.events(job.id, kinds=(kind,))]


def rows(shop: Shop, job: Job) -> list[dict[str, Any]]:
    return [row for data in told(shop, job, "metrics") for row in data["rows"]]


def adapter(shop: Shop) -> bytes:
    head = shop.destination.head("me/tuned")
    assert head is not None
    snapshot = shop.destination.existing("me/tuned").snapshot(head.sha)
    return (snapshot / "adapter_model.safetensors").read_bytes()


def test_a_model_is_compressed_tuned_and_published(shop: Shop) -> None:
    done = shop.attempt(shop.submit(work(shop)))

    assert (done.state, done.progress) == (JobState.SUCCEEDED, 1.0)
    report = TuningReport.model_validate(shop.store.report(done.id))
    (cell,) = report.cells
    assert [row["step"] for row in rows(shop, done) if "loss" in row] == [row.step for row in cell.rows]
    assert [row["loss"] for row in rows(shop, done) if "loss" in row] == [row.loss for row in cell.rows]
    scored = [row for row in rows(shop, done) if "validation_loss" in row]
    assert [row["validation_loss"] for row in scored] == [one.scores["loss"] for one in cell.evaluations]
    (data,) = told(shop, done, "data")
    assert data["report"] == report.data.model_dump(mode="json")
    assert data["spec"]["optimizer"]["learning_rate"] == report.spec.optimizer.learning_rate
    saved = told(shop, done, "checkpoint")
    assert {row["step"] for row in saved} >= {3, 6, cell.best_step}
    assert [row["step"] for row in saved if row["is_best"]][-1] == cell.best_step
    assert all(row["num_bytes"] > 0 for row in saved)
    head = shop.destination.head("me/tuned")
    assert head is not None
    snapshot = shop.destination.existing("me/tuned").snapshot(head.sha)
    assert json.loads((snapshot / "tuning.json").read_text()) == shop.store.report(done.id)
    assert "fine-tuned" in (snapshot / "README.md").read_text()
    assert json.loads((snapshot / "adapter_config.json").read_text())["base_model_name_or_path"] == "me/tuned"
    assert shop.destination.destination("me/tuned").holds == "fine-tuning"
    assert load(snapshot)


def test_an_attempt_after_a_stop_ends_with_the_same_bits(shop: Shop, tmp_path: Path, model: Path) -> None:
    undisturbed = Shop(tmp_path / "undisturbed")
    undisturbed.source.import_model(model, "acme/base")
    undisturbed.attempt(undisturbed.submit(work(undisturbed)))
    asked = 0

    def after_some_passes() -> bool:
        nonlocal asked
        is_training = any(shop.workspace.root.glob("*.partial/cells/000/checkpoints"))
        asked += is_training
        return asked == 12

    shop.asked_to_stop = after_some_passes
    job = shop.submit(work(shop))
    with pytest.raises(StopRequested):
        shop.attempt(job)
    assert shop.workspace.latest_checkpoint().startswith("step-")
    shop.store.requeue(Lease(job.id, 1, "w"))

    done = shop.attempt(job, 2)

    assert done.state is JobState.SUCCEEDED
    assert adapter(shop) == adapter(undisturbed)
    report = TuningReport.model_validate(shop.store.report(done.id))
    steps = [row["step"] for row in rows(shop, done) if "loss" in row]
    assert steps == [row.step for row in report.cells[0].rows]  # none twice, none missing


def test_a_result_that_was_not_published_is_not_trained_again(shop: Shop) -> None:
    job = shop.submit(work(shop))
    shop.attempt(job)
    copy = shop.submit(work(shop), force=True)
    shop.workspace.artifact.joinpath("README.md").unlink()

    again = shop.attempt(copy)

    assert again.state is JobState.SUCCEEDED
    assert "Found the result of an earlier attempt, complete." in shop.log(again)
    assert not told(shop, again, "metrics")


def test_rows_that_cannot_be_learned_end_the_job_before_anything_is_compressed(shop: Shop) -> None:
    broken = ROWS + json.dumps({"prompt": "only"}) + "\n"
    job = shop.submit(work(shop, data=TrainingData(text=broken)))

    with pytest.raises(TrainingDataError, match="row 25"):
        shop.attempt(job)
    assert not list(shop.workspace.root.glob("*.partial/compressed*"))


@pytest.mark.parametrize(
    ("start", "result"),
    [("srr", "adapter"), ("lora", "adapter"), ("lora", "merged")],
    ids=["adapter", "adapter-on-16-bit", "merged"],
)
def test_a_result_goes_on_learning_from_a_checkpoint_it_keeps(shop: Shop, start: str, result: str) -> None:
    wanted = with_fields(spec(), {"checkpoints.publish": True, "result.kind": result})
    wanted = wanted if start == "srr" else with_start(wanted, start)
    first = shop.attempt(shop.submit(work(shop, tuning=wanted)))
    kept = TuningReport.model_validate(shop.store.report(first.id)).kept
    step, before = next(
        (row["step"], row["scores"]["loss"])
        for row in told(shop, first, "checkpoint")
        if row["step"] in kept and row["scores"]
    )
    head = shop.destination.head("me/tuned")
    assert head is not None
    second = Shop(shop.folder / "second")
    second.source.import_model(shop.destination.existing("me/tuned").snapshot(head.sha), "me/tuned")
    going_on = with_start(spec(**{"schedule.epochs": 1}), "artifact")
    tuning = with_fields(going_on, {"start.checkpoint": step}).resolved(starts_fresh=False)

    done = second.attempt(
        second.submit(
            work(
                second,
                source=JobSource(model_id="me/tuned"),
                destination=JobDestination(repo_id="me/tuned-twice"),
                tuning=tuning,
                calibration=None,
            )
        )
    )

    report = TuningReport.model_validate(second.store.report(done.id))
    assert (report.start.kind, report.start.rank, report.start.is_fresh) == ("artifact", 4, False)
    # Factors are rounded to 16 bits where they are stored.
    assert report.start_scores["loss"] == pytest.approx(before, rel=1e-2)


def test_a_dataset_is_not_asked_for_where_nothing_may_be_fetched(shop: Shop) -> None:
    data = DatasetFile(dataset="org/rows", revision="a" * 40, path="train.jsonl")

    with pytest.raises(TrainingDataError, match="upload the rows"):
        shop.attempt(shop.submit(work(shop, data=data)))
