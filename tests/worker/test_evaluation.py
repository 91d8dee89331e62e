"""An evaluation as a job: models fetched whole, measured, and the report published or not."""

import json
from pathlib import Path

import pytest
import torch

from service.hub.errors import DestinationConflictError
from service.jobs.schema import JobState
from service.jobs.work import EvaluateWork, JobDestination, JobSource, StoredText
from srr_core.errors import EvaluationError, StopRequested
from srr_core.evaluation_report import EvaluationReport
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, override
from srr_core.recipe.evaluations import HarnessSpec, TextDivergenceSpec, TokenPerplexitySpec, WordPerplexitySpec
from tests.pico import build_checkpoint, write_text
from tests.worker.shop import Shop

SMALL = {"rank": 4, "calibration": {"num_sequences": 4, "sequence_length": 16, "batch_size": 2}, "evaluation": None}
SPECS = (
    TextDivergenceSpec(sequence_length=32, num_sequences=3),
    TokenPerplexitySpec(sequence_length=32, num_sequences=3),
)
SOURCE, ARTIFACT = JobSource(model_id="acme/base"), JobSource(model_id="acme/base-srr")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    source = build_checkpoint(folder / "source", dtype=torch.float32)
    compress(source, override(PRESETS["srr"], SMALL), folder / "out", calibration_text=write_text(folder / "text.txt"))
    return folder


@pytest.fixture
def shop(models: Path, tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.source.import_model(models / "source", "acme/base")
    shop.source.import_model(models / "out", "acme/base-srr")
    return shop


def test_an_artifact_is_measured_against_its_source_and_nothing_is_published(shop: Shop) -> None:
    text = write_text(shop.folder / "text.txt").read_text()
    work = EvaluateWork(source=ARTIFACT, reference=SOURCE, evaluators=SPECS, text=StoredText(text=text))

    done = shop.attempt(shop.submit(work))

    assert (done.state, done.result, done.progress) == (JobState.SUCCEEDED, None, 1.0)
    report = EvaluationReport.model_validate(shop.store.report(done.id))
    assert (report.model.id, report.model.is_artifact) == ("acme/base-srr", True)
    assert report.model.sha == done.work.source.sha
    assert isinstance(done.work, EvaluateWork)
    assert done.work.reference is not None
    assert report.source is not None
    assert report.source.sha == done.work.reference.sha
    divergence = report.measurements[0]
    assert divergence.compressed > 0  # its L·R came along, or it would be Q alone; either way not the source
    assert "Measuring divergence." in shop.log(done)
    assert not list(shop.destination.repository_ids())


def test_a_model_against_itself_differs_by_nothing(shop: Shop) -> None:
    done = shop.attempt(shop.submit(EvaluateWork(source=SOURCE, reference=SOURCE, evaluators=SPECS)))

    report = EvaluationReport.model_validate(shop.store.report(done.id))
    assert report.measurements[0].compressed == pytest.approx(0, abs=1e-6)


def test_what_a_source_scored_is_kept_for_the_next_job(shop: Shop) -> None:
    work = EvaluateWork(source=ARTIFACT, reference=SOURCE, evaluators=(SPECS[1],))
    first = shop.attempt(shop.submit(work))
    kept = {file.name: file.stat().st_mtime_ns for file in (shop.folder / "cache" / "sources").iterdir()}
    assert kept

    second = shop.attempt(shop.submit(work, force=True))

    assert {file.name: file.stat().st_mtime_ns for file in (shop.folder / "cache" / "sources").iterdir()} == kept
    rows = [EvaluationReport.model_validate(shop.store.report(job.id)).measurements for job in (first, second)]
    assert rows[0] == rows[1]


def test_what_a_private_source_scored_is_kept_for_its_owner_alone(shop: Shop, models: Path) -> None:
    shop.source.import_model(models / "source", "acme/secret", private=True)
    for owner in ("ann", "bob"):
        shop.tenancy.lend(owner, "acme")
    work = EvaluateWork(source=ARTIFACT, reference=JobSource(model_id="acme/secret"), evaluators=(SPECS[1],))

    for owner, force in (("ann", False), ("ann", True), ("bob", False)):
        shop.attempt(shop.submit(work, owner=owner, force=force))

    kept = [file.parent for file in (shop.folder / "cache").rglob("*.json")]
    assert not (shop.folder / "cache" / "sources").exists()
    assert len(kept) == len(set(kept)) == 2


def test_the_report_is_published_with_a_card_once(shop: Shop) -> None:
    work = EvaluateWork(
        source=ARTIFACT, reference=SOURCE, evaluators=SPECS, destination=JobDestination(repo_id="me/numbers")
    )
    done = shop.attempt(shop.submit(work))

    head = shop.destination.head("me/numbers")
    assert head is not None
    assert done.result is not None
    assert (done.state, done.result.commit_sha) == (JobState.SUCCEEDED, head.sha)
    snapshot = shop.destination.existing("me/numbers").snapshot(head.sha)
    assert json.loads((snapshot / "evaluation.json").read_text()) == shop.store.report(done.id)
    card = (snapshot / "README.md").read_text()
    assert "Measurements of `acme/base-srr`" in card
    assert shop.destination.destination("me/numbers").holds == "evaluation"
    again = shop.attempt(shop.submit(work, force=True))  # in its own place: the head moves on
    assert again.result is not None


def test_a_report_never_takes_the_place_of_an_artifact(shop: Shop, models: Path) -> None:
    shop.destination.import_model(models / "out", "me/artifact")
    artifact = shop.destination.head("me/artifact")
    work = EvaluateWork(source=SOURCE, evaluators=(SPECS[1],), destination=JobDestination(repo_id="me/artifact"))
    shop.tenancy.of("me").publish("me/artifact", with_own_token=False)

    with pytest.raises(DestinationConflictError, match="a compression of"):
        shop.attempt(shop.submit(work))
    assert shop.destination.head("me/artifact") == artifact


def test_datasets_that_cannot_be_fetched_are_named_with_what_would_run(shop: Shop) -> None:
    work = EvaluateWork(source=SOURCE, evaluators=(SPECS[1], WordPerplexitySpec()))

    with pytest.raises(EvaluationError, match="without them these would run: perplexity"):
        shop.attempt(shop.submit(work))


def test_nothing_named_is_what_suits_the_model(shop: Shop) -> None:
    text = write_text(shop.folder / "text.txt").read_text()
    done = shop.attempt(shop.submit(EvaluateWork(source=SOURCE, text=StoredText(text=text * 20))))

    report = EvaluationReport.model_validate(shop.store.report(done.id))
    assert [row.evaluator for row in report.measurements] == ["perplexity"]


def test_a_stop_between_blocks_ends_it(shop: Shop) -> None:
    shop.asked_to_stop = (shop.workspace.source / "config.json").is_file
    job = shop.submit(EvaluateWork(source=SOURCE, evaluators=(HarnessSpec(limit=2),)))

    with pytest.raises(StopRequested):
        shop.attempt(job)
    assert shop.store.get(job.id).state is JobState.RUNNING
