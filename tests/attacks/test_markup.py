"""Words of models, callers and hubs in pages, cards and Markdown: shown as they are, never run and never followed."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from pydantic import BaseModel

from service.jobs.schema import Job, JobFailure, JobSubmission, Lease
from service.jobs.work import ConvertWork, EvaluateWork, JobDestination, JobSource
from srr_core.recipe.exporters import GGUFSpec
from tests.attacks.conftest import Installation
from tests.attacks.hostile_words import HOSTILE, MARK, markup_in, markup_in_markdown, poisoned
from tests.service import finished
from tests.service.models import model_files
from tests.service.submitting import submission, submitted
from tests.worker.artifacts import source
from worker.card import model_card
from worker.evaluation_card import evaluation_card
from worker.tuning_card import tuning_card

LEASE = timedelta(hours=1)
REPORTS: Mapping[str, Callable[[], BaseModel]] = {
    "compress": finished.report,
    "convert": finished.conversion,
    "evaluate": finished.side_by_side,
    "finetune": finished.tuning,
}
FEW = {"compress": 15, "convert": 7, "evaluate": 18, "finetune": 12}
"""Strings of each that anything may stand in; were there fewer, nothing would be tried."""


def _compression() -> JobSubmission:
    return submission(
        source=JobSource(model_id="org/model"), destination=JobDestination(repo_id="acme/out"), tags=("x",)
    )


def _work(store: Any, kind: str) -> Job:
    if kind == "compress":
        return submitted(store, _compression(), owner="ann")
    if kind == "evaluate":
        work = EvaluateWork(source=JobSource(model_id="org/model"), reference=JobSource(model_id="org/base"))
        return submitted(store, JobSubmission(work=work), owner="ann")
    if kind == "convert":
        conversion = ConvertWork(
            source=JobSource(model_id="org/model"), target=GGUFSpec(), destination=JobDestination(repo_id="acme/out")
        )
        return submitted(store, JobSubmission(work=conversion), owner="ann")
    made = finished.training(store, owner="ann")
    store.requeue(Lease(made.id, 1, finished.WORKER))
    return made


def _claimed(installation: Installation, kind: str) -> tuple[Job, Lease]:
    job = _work(installation.store, kind)
    attempt = installation.store.get(job.id).attempt
    claim = installation.store.claim(job.id, attempt, worker="w", lasts=LEASE)
    assert claim is not None
    return job, claim.lease


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_full_of_markup_runs_nothing(installation: Installation, kind: str) -> None:
    report, count = poisoned(REPORTS[kind](), keep={"metric"})
    job, lease = _claimed(installation, kind)
    installation.store.resolve_source(lease, sha="a" * 40)
    installation.store.publishing(lease)
    installation.store.succeed(lease, result=None, report=report.model_dump(mode="json"))
    header = installation.bearer("ann")

    page = installation.http.get(f"/jobs/{job.id}/report", headers=header)
    told = installation.http.get(f"/v1/jobs/{job.id}/report", headers=header | {"Accept": "text/markdown"})

    assert count >= FEW[kind]
    assert (page.status_code, told.status_code) == (200, 200)
    assert told.headers["content-type"].startswith("text/markdown")
    assert MARK in page.text
    assert MARK in told.text
    assert markup_in(page.text) == []
    assert markup_in_markdown(told.text) == []


@pytest.mark.parametrize("kind", [kind for kind in REPORTS if kind != "convert"])
def test_a_card_full_of_markup_runs_nothing(kind: str) -> None:
    report, _ = poisoned(REPORTS[kind](), keep={"metric"})
    words: Any = {"license": HOSTILE, "license_name": HOSTILE, "license_link": HOSTILE, "pipeline_tag": HOSTILE}
    model = source(**words, tags=(HOSTILE,), languages=(HOSTILE,), card={"tags": [HOSTILE], "language": HOSTILE})

    card = CARDS[kind](report, model)

    front, text = card.removeprefix("---\n").split("\n---\n", maxsplit=1)
    assert MARK in text
    assert markup_in_markdown(text) == []
    assert _lines_of_the_block(front) == set()


@pytest.mark.parametrize("kind", REPORTS)
def test_a_job_under_way_that_says_markup_runs_nothing(installation: Installation, kind: str) -> None:
    job, lease = _claimed(installation, kind)
    layer = {"layer": HOSTILE, "output_error": 0.1, "preserved_rank": 1, "completed": 1, "total": 4}
    installation.store.append_event(lease, "layer", layer)
    installation.store.append_event(lease, "log", {"message": HOSTILE})
    rows = [{"cell": 0.0, "step": 1.0, "loss": 2.5, HOSTILE: 1.0}]
    installation.store.append_event(lease, "metrics", {"rows": rows})
    checkpoint = {"cell": 0, "step": 1, "num_bytes": 1, "scores": {HOSTILE: 2.25}, "is_best": True}
    installation.store.append_event(lease, "checkpoint", checkpoint)
    header = installation.bearer("ann")

    pages = [installation.http.get(path, headers=header) for path in (f"/jobs/{job.id}", f"/jobs/{job.id}/live")]
    installation.store.fail(lease, JobFailure(code="invalid_checkpoint", message=HOSTILE))
    pages += [installation.http.get(path, headers=header) for path in (f"/jobs/{job.id}", "/jobs", "/compare")]

    assert [page.status_code for page in pages] == [200] * 5
    assert MARK in pages[0].text
    assert [markup_in(page.text) for page in pages] == [[]] * 5


@pytest.mark.parametrize("field", ["architectures", "model_type", "torch_dtype", "quantization_config", "rope_scaling"])
def test_a_configuration_full_of_markup_is_shown_as_it_is(installation: Installation, field: str) -> None:
    value: dict[str, Any] = {
        "architectures": [HOSTILE],
        "quantization_config": {"quant_method": HOSTILE},
        "rope_scaling": {"rope_type": HOSTILE, "type": HOSTILE},
    }
    card = f"---\nlicense: other\nlicense_name: {HOSTILE!r}\n---\n# <evil>\n"
    installation.hub.add_model("org/hostile", model_files(card=card, **{field: value.get(field, HOSTILE)}))
    header = installation.bearer("ann")
    token = installation.http.get("/sign-in").text.split('name="csrf_token" value="')[1].split('"')[0]
    form = {"csrf_token": token, "model_id": "org/hostile", "repo_id": "acme/out", "recipe": "srr"}

    pages = [
        installation.http.post(path, data=form | more, headers=header | fragment)
        for path, more in (("/check", {}), ("/jobs", {}), ("/evaluate", {"action": "check"}), ("/finetune/check", {}))
        for fragment in ({}, {"HX-Request": "true"})
    ]

    assert {page.status_code for page in pages} <= {200, 422, 403}
    assert [markup_in(page.text) for page in pages] == [[]] * len(pages)


@pytest.mark.parametrize(
    "path",
    [
        *("/?model_id={}", "/preview?model_id={}&repo_id={}", "/jobs?text={}&state={}&tag={}&recipe={}&model_id={}"),
        *("/compare?model_id={}&a={}&job={}", "/evaluate?model_id={}&from={}", "/finetune?model_id={}&from={}"),
        *("/sign-in?next={}", "/jobs/{}", "/watches/new?pattern={}", "/recipes?recipe={}", "/jobs?cursor={}"),
    ],
)
def test_an_address_full_of_markup_runs_nothing(installation: Installation, path: str) -> None:
    header = installation.bearer("ann") | {"Accept": "text/html"}
    page = installation.http.get(path.replace("{}", quote(HOSTILE)), headers=header)

    assert page.status_code < 500
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["content-type"].startswith("text/html")
    assert markup_in(page.text) == []


def test_the_reader_would_notice() -> None:
    assert markup_in(f"<p>{HOSTILE}</p>")
    assert markup_in_markdown(f"| {HOSTILE} |")
    assert markup_in_markdown(f"a `{HOSTILE}`")
    assert markup_in(f'<a href="//{MARK}">a</a>')
    assert markup_in('<p onclick="a">a</p>')


CARDS: Mapping[str, Callable[[Any, Any], str]] = {
    "compress": lambda report, model: model_card(report, repo_id="acme/out", source=model),
    "evaluate": lambda report, model: evaluation_card(report, repo_id="acme/out", model=model),
    "finetune": lambda report, model: tuning_card(report, repo_id="acme/out", source=model, quant_method=None),
}


def _lines_of_the_block(front: str) -> set[str]:
    """Return the keys that a hostile word would have added to the metadata."""
    known = {"base_model", "base_model_relation", "language", "library_name", "license", "license_link", "license_name"}
    return set(yaml.safe_load(front)) - known - {"model-index", "model_name", "pipeline_tag", "tags"}
