"""The list of jobs: searching, filtering, leafing."""

import re

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from service.web import searching
from tests.service import finished


def listed(http: TestClient, **params: str) -> set[str]:
    """Return the models on the list of jobs under some filters."""
    return set(re.findall(r'<a href="/jobs/job_\w+">([^<]+)</a>', http.get("/jobs", params=params).text))


def test_jobs_are_found_by_a_part_of_model_or_destination_whatever_the_case(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    finished.queued(job_store, model_id="meta/Llama-3")
    finished.queued(job_store, model_id="org/other", recipe="qera-exact")

    assert listed(http, text="llama") == {"meta/Llama-3"}
    assert listed(http, text="OTHER-qera") == {"org/other"}
    assert listed(http, text="nothing") == set()


@pytest.mark.parametrize(
    ("field", "typed", "found"),
    [
        ("recipe", "qera-exact", {"org/b"}),
        ("tag", "nightly", {"org/b"}),
        ("state", "queued", {"org/a", "org/b"}),
        ("since", "2999-01-01", set()),
        ("until", "2000-01-01", set()),
        ("since", "not a day", {"org/a", "org/b"}),
    ],
)
def test_every_filter_filters(
    http: TestClient, job_store: MemoryJobStore, field: str, typed: str, found: set[str]
) -> None:
    finished.queued(job_store, model_id="org/a")
    finished.queued(job_store, model_id="org/b", recipe="qera-exact", tags=("nightly",))

    assert listed(http, **{field: typed}) == found


def test_the_next_page_keeps_the_filters(http: TestClient, job_store: MemoryJobStore) -> None:
    oldest = finished.queued(job_store, model_id="org/wanted", tags=("x",))
    for _ in range(25):
        finished.queued(job_store, model_id="org/wanted", tags=("x",))
        finished.queued(job_store, model_id="org/other", tags=("x",))

    page = http.get("/jobs", params={"text": "wanted", "tag": "x"}).text
    following = re.search(r'href="(/jobs\?[^"]+)" rel="next"', page)

    assert following is not None
    second = http.get(following[1].replace("&amp;", "&")).text
    assert oldest.id in second
    assert "org/other" not in second
    assert 'href="/jobs">Clear</a>' in second


def test_a_search_through_many_jobs_stops_and_goes_on_where_it_stopped(
    job_store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_SCANNED", 4)
    monkeypatch.setattr(searching, "_BATCH", 2)
    wanted = finished.queued(job_store, model_id="org/wanted")
    for _ in range(5):
        finished.queued(job_store)

    first = searching.find_jobs(job_store, JobFilter(), "wanted", limit=25)
    second = searching.find_jobs(job_store, JobFilter(), "wanted", limit=25, cursor=first.next_cursor)

    assert (first.jobs, first.is_cut) == ((), True)
    assert [job.id for job in second.jobs] == [wanted.id]
    assert (second.next_cursor, second.is_cut) == (None, False)
