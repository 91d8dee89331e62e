"""What this version cannot read is shown as unreadable over REST and on the pages, and is never a failure of ours."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update

from service.jobs import tables
from service.jobs.schema import Job
from service.jobs.sql_store import SqlJobStore
from service.platform.database import writing
from service.releases.schema import WatchRules
from service.releases.store import WatchStore
from service.releases.tables import watches as watch_table
from service.releases.watches import create_watch
from srr_core.recipe import named_recipe
from tests.service import finished


@pytest.fixture
def job_store(engine: Engine) -> SqlJobStore:
    """Jobs in the database, where rows of every version are."""
    return SqlJobStore(engine)


@pytest.fixture
def strange(engine: Engine, job_store: SqlJobStore) -> Job:
    """A job whose work is of a kind that this version does not know."""
    job = finished.succeeded(job_store)
    with writing(engine) as connection:
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job.id).values(work={"kind": "tune"}))
    return job


def test_the_list_of_jobs_names_it_beside_the_others(http: TestClient, job_store: SqlJobStore, strange: Job) -> None:
    other = finished.queued(job_store, model_id="org/other")

    listed = http.get("/v1/jobs").json()

    assert [job["id"] for job in listed["jobs"]] == [other.id]
    assert [(job["id"], job["state"]) for job in listed["unreadable"]] == [(strange.id, "succeeded")]


def test_looked_at_alone_it_is_a_conflict_with_its_reason(http: TestClient, strange: Job) -> None:
    answer = http.get(f"/v1/jobs/{strange.id}")

    assert (answer.status_code, answer.json()["code"]) == (409, "unreadable")
    assert strange.id in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/jobs", "/compare", "/workers", "/?model_id=org/model"])
def test_pages_with_it_are_shown(http: TestClient, job_store: SqlJobStore, strange: Job, path: str) -> None:
    finished.succeeded(job_store, model_id="org/other")

    page = http.get(path, headers={"accept": "text/html"})

    assert page.status_code == 200


def test_the_page_of_jobs_says_which_one(http: TestClient, strange: Job) -> None:
    page = http.get("/jobs", headers={"accept": "text/html"}).text

    assert "cannot be read by this version" in page
    assert strange.id in page


def test_a_report_of_another_form_is_left_out_of_the_comparison(
    http: TestClient, engine: Engine, job_store: SqlJobStore
) -> None:
    strange, other = finished.succeeded(job_store), finished.succeeded(job_store, recipe="gptq")
    reports = tables.job_reports
    with writing(engine) as connection:
        connection.execute(update(reports).where(reports.c.job_id == strange.id).values(report={"of": "tomorrow"}))

    compared = http.get("/compare?model_id=org/model", headers={"accept": "text/html"})
    as_page = http.get(f"/jobs/{strange.id}/report", headers={"accept": "text/html"})

    assert (compared.status_code, other.id in compared.text, strange.id in compared.text) == (200, True, False)
    assert as_page.status_code == 409
    assert http.get(f"/v1/jobs/{strange.id}/report").json() == {"of": "tomorrow"}


def test_the_list_of_watches_names_one_that_cannot_be_read(
    http: TestClient, engine: Engine, watches: WatchStore, vault: object
) -> None:
    rules = WatchRules(name="w", pattern="org/*", recipes=(named_recipe("srr"),), destination="us/{name}")
    made = [create_watch(rules, owner="local", store=watches, vault=vault) for _ in range(2)]  # type: ignore[arg-type]
    with writing(engine) as connection:
        connection.execute(update(watch_table).where(watch_table.c.id == made[0].id).values(rules={"name": "w"}))

    listed = http.get("/v1/watches").json()
    page = http.get("/watches", headers={"accept": "text/html"})

    assert ([watch["id"] for watch in listed["watches"]], listed["unreadable"]) == ([made[1].id], [made[0].id])
    assert (page.status_code, made[0].id in page.text) == (200, True)
