"""What is stored of evaluations and fine-tunings since they came is read by this version."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from service.api.schemas import JobResource
from service.jobs.reports import job_report
from service.jobs.schema import JobFilter, JobSubmission
from service.jobs.sql_store import SqlJobStore
from service.jobs.submit import check_submission, replay
from service.jobs.trainings import Trainings
from service.jobs.upgrade import read_event, read_job
from service.jobs.work import EvaluateWork, FinetuneWork
from service.platform.database import migrate, open_database
from srr_core.evaluation_report import EvaluationReport, read_evaluation_report
from srr_core.tuners.report import TuningReport, read_tuning_report
from tests.golden.databases import copy_rows, upgrade_to

GOLDEN = Path(__file__).parents[2] / "golden" / "kinds"
IDS = json.loads((GOLDEN / "ids.json").read_text())
KINDS = ("evaluate", "finetune")


on_both = pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)


def _document(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """The database of that day, brought up to date; SQLite's unless a test asks for another."""
    shutil.copyfile(GOLDEN / "jobs.sqlite3", tmp_path / "jobs.sqlite3")
    engine = old = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite3'}")
    if getattr(request, "param", "sqlite") == "postgresql":
        engine = open_database(request.getfixturevalue("postgres_url"))
        with old.connect() as connection:
            upgrade_to(engine, connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
        copy_rows(old, engine)
    migrate(engine)
    yield engine
    engine.dispose()
    old.dispose()


@on_both
def test_every_job_is_listed_by_kind_and_state(engine: Engine) -> None:
    store = SqlJobStore(engine)

    pages = {kind: store.list(JobFilter(kind=kind), limit=100) for kind in KINDS}

    listed = {f"{kind}_{job.state}": job.id for kind, page in pages.items() for job in page.jobs}
    assert listed == IDS
    assert [page.unreadable for page in pages.values()] == [(), ()]


@on_both
def test_a_job_says_what_it_said(engine: Engine) -> None:
    store = SqlJobStore(engine)

    found = {kind: store.get(IDS[f"{kind}_succeeded"]) for kind in KINDS}

    assert found == {kind: read_job(_document(f"{kind}-job.json")) for kind in KINDS}
    evaluation, tuning = found["evaluate"].work, found["finetune"].work
    assert isinstance(evaluation, EvaluateWork)
    assert isinstance(tuning, FinetuneWork)
    assert [spec.kind for spec in evaluation.evaluators] == ["divergence"]
    assert (tuning.recipe_name, tuning.tuning.task.kind, len(tuning.tuning.cells())) == ("srr", "instructions", 2)


def test_reports_are_read(engine: Engine) -> None:
    store = SqlJobStore(engine)

    reports = [job_report(store.get(job_id), store.report(job_id)) for job_id in map(_succeeded, KINDS)]

    evaluation, tuning = reports
    assert isinstance(evaluation, EvaluationReport)
    assert isinstance(tuning, TuningReport)
    assert [row.compressed for row in evaluation.measurements] == [0.0312]
    assert (tuning.scores, tuning.chosen) == ({"loss": 2.125}, (3e-4, 0))


def _succeeded(kind: str) -> str:
    return str(IDS[f"{kind}_succeeded"])


def test_the_course_of_a_training_is_read(engine: Engine) -> None:
    store = SqlJobStore(engine)

    record = Trainings(store).of(IDS["finetune_succeeded"])

    assert list(store.events(IDS["finetune_succeeded"])) == [
        read_event(event) for event in _document("finetune-events.json")
    ]
    assert (record.steps, record.total, record.latest["loss"]) == (2, 2, 2.5)
    assert [(row.step, row.scores, row.is_best) for row in record.checkpoints] == [(1, {"loss": 2.25}, True)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_was_answered_before_replays(engine: Engine, kind: str) -> None:
    store = SqlJobStore(engine)
    wanted = JobSubmission(work=store.get(IDS[f"{kind}_queued"]).work)

    before = replay(check_submission(wanted, owner="ann", idempotency_key=f"golden-{kind}"), store)

    assert before is not None
    assert before.id == IDS[f"{kind}_queued"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_of_the_api_is_read_by_the_client(kind: str) -> None:
    resource = JobResource.model_validate(_document(f"{kind}-resource.json"), extra="ignore")

    assert (resource.kind, resource.state) == (kind, "succeeded")
    assert resource.work == read_job(_document(f"{kind}-job.json")).work


def test_newer_reports_are_read_as_far_as_they_are_known() -> None:
    evaluation, tuning = (_document(f"{kind}-report.json") for kind in KINDS)
    newer = json.loads(json.dumps(tuning))
    newer["spec"]["start"]["recipe"]["speed"] = "high"
    newer["spec"] |= {"schema_version": 9, "mood": "good"}
    newer["cells"] = [{**cell, "colour": "red"} for cell in newer["cells"]]

    assert read_tuning_report({**newer, "schema_version": 9, "energy": 1}) == read_tuning_report(tuning)
    assert read_evaluation_report({**evaluation, "schema_version": 9, "energy": 1}) == read_evaluation_report(
        evaluation
    )


def test_a_newer_fine_tuning_is_read_as_far_as_it_is_known() -> None:
    stored = _document("finetune-job.json")
    newer = json.loads(json.dumps(stored))
    newer["work"]["tuning"]["start"]["recipe"]["speed"] = "high"
    newer["work"]["tuning"] |= {"schema_version": 9, "mood": "good"}

    assert read_job(newer) == read_job(stored)
