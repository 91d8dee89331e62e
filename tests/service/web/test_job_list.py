"""The list of jobs: searching, filtering, leafing."""

import re

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import JobFilter
from service.web import job_rows, searching
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


def models_in_order(http: TestClient, **params: str) -> list[str]:
    """Return the models on the list of jobs from above."""
    return re.findall(r'<a href="/jobs/job_\w+">([^<]+)</a>', http.get("/jobs", params=params).text)


def row_of(page: str, model_id: str) -> str:
    """Return what the row of a model says, without its tags."""
    (row,) = [row for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if f">{model_id}<" in row]
    return " ".join(re.sub(r"<[^>]+>", " ", row).split())


@pytest.mark.parametrize("has_numbers", [True, False], ids=["kept with the job", "of an earlier version"])
def test_a_finished_job_is_a_row_of_results(http: TestClient, job_store: MemoryJobStore, has_numbers: bool) -> None:
    finished.succeeded(job_store, model_id="org/done", document=finished.diverging(0.02), has_numbers=has_numbers)

    row = row_of(http.get("/jobs").text, "org/done")

    # 37.0 became 38.5, half of the bytes of a source in 16 bits are left.
    for number in ("0.0200", "± 0.0010", "+4.1 %", "38.50", "8.00", "9.25 in layers", "5.0 MiB"):
        assert number in row


def test_an_evaluation_that_published_nothing_shows_what_it_measured(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    finished.measured(job_store)

    row = row_of(http.get("/jobs").text, "org/model-srr")

    assert "0.0312" in row
    assert "5.0 MiB" in row


def test_a_failed_job_says_why_in_its_row_and_a_long_reason_is_cut(http: TestClient, job_store: MemoryJobStore) -> None:
    finished.failed(job_store, model_id="org/short", message="the model is gated")
    finished.failed(job_store, model_id="org/long", message="a word " * 60)

    page = http.get("/jobs").text

    assert "The model is gated." in row_of(page, "org/short")
    assert "…" in row_of(page, "org/long")
    assert len(row_of(page, "org/long")) < 300


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("kl", ["org/best", "org/worst", "org/failed"]),
        ("-kl", ["org/worst", "org/best", "org/failed"]),
        ("size", ["org/worst", "org/best", "org/failed"]),
        ("", ["org/failed", "org/best", "org/worst"]),
        ("nonsense", ["org/failed", "org/best", "org/worst"]),
    ],
)
def test_rows_are_ordered_by_the_address_and_those_without_a_value_come_last(
    http: TestClient, job_store: MemoryJobStore, sort: str, expected: list[str]
) -> None:
    finished.succeeded(job_store, model_id="org/worst", document=finished.diverging(0.5, size_bytes=1_000_000))
    finished.succeeded(job_store, model_id="org/best", document=finished.diverging(0.01, size_bytes=2_000_000))
    finished.failed(job_store, model_id="org/failed")

    assert models_in_order(http, sort=sort) == expected


def test_headings_keep_the_filters_and_turn_the_order_round(http: TestClient, job_store: MemoryJobStore) -> None:
    finished.succeeded(job_store)

    page = http.get("/jobs", params={"text": "model", "sort": "kl"}).text

    assert 'aria-sort="ascending"><a class="sort" href="/jobs?text=model&amp;sort=-kl"' in page
    assert 'href="/jobs?text=model&amp;sort=bits"' in page
    assert '<option value="kl" selected>' in page


def test_an_ordered_list_goes_on_by_pages(http: TestClient, job_store: MemoryJobStore) -> None:
    for number in range(27):
        finished.succeeded(job_store, model_id=f"org/m{number:02}", document=finished.diverging(0.01 * (number + 1)))

    first = http.get("/jobs", params={"sort": "kl"}).text
    following = re.search(r'href="(/jobs\?[^"]+)" rel="next"', first)

    assert following is not None
    second = http.get(following[1].replace("&amp;", "&")).text
    assert re.findall(r">(org/m\d+)</a>", second) == ["org/m25", "org/m26"]
    assert 'rel="next"' not in second


def test_no_page_reads_more_reports_than_it_may(job_store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_rows, "MAX_REPORTS_READ", 2)
    jobs = [finished.succeeded(job_store, has_numbers=False) for _ in range(4)]

    rows = job_rows.read_rows(job_store, jobs)

    assert [row.numbers.size_bytes is not None for row in rows] == [True, True, False, False]
