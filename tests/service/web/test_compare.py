"""Results of one model side by side."""

import re

from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.web.comparing import NARROW, WIDE, candidates, quality, scatter_chart
from tests.service import finished


def headings(page: str) -> list[str]:
    """Return the second headings of a page."""
    return re.findall(r"<h2>([^<]+)</h2>", page)


def test_chosen_jobs_are_in_the_chart_and_the_others_only_in_the_table(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    first, second, third = (finished.succeeded(job_store) for _ in range(3))

    page = http.get("/compare", params={"job": [first.id, third.id]}).text

    assert page.count('class="mark"') == 2 * 2
    assert all(f"/jobs/{job.id}/report" in page for job in (first, second, third))
    assert page.count(" checked") == 2


def test_perplexity_is_compared_where_all_have_it_and_the_error_otherwise(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    whole, bare = finished.report(), finished.report().model_copy(update={"measurements": ()})
    with_it = [finished.succeeded(job_store, document=whole) for _ in range(2)]
    without = finished.succeeded(job_store, document=bare)

    both = http.get("/compare", params={"job": [job.id for job in with_it]}).text
    mixed = http.get("/compare", params={"job": [with_it[0].id, without.id], "by": "size"}).text

    assert headings(both) == ["Perplexity per token against bits per weight"]
    assert headings(mixed) == ["Mean output error against size of the files"]


def test_results_of_other_models_are_left_out_and_named(http: TestClient, job_store: MemoryJobStore) -> None:
    mine, other = finished.succeeded(job_store), finished.succeeded(job_store, model_id="org/other")

    page = http.get("/compare", params={"job": [mine.id, other.id]}).text

    assert "Left out: org/other" in page
    assert f"/jobs/{other.id}/report" not in page


def test_a_job_of_somebody_else_cannot_be_compared(http: TestClient, job_store: MemoryJobStore) -> None:
    other = finished.succeeded(job_store, owner="somebody")

    assert http.get("/compare", params={"job": other.id}).status_code == 404


def test_a_finished_job_leads_to_the_comparison_once_there_is_another(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    job = finished.succeeded(job_store)
    alone = http.get(f"/jobs/{job.id}").text
    finished.succeeded(job_store)
    together = http.get(f"/jobs/{job.id}").text

    assert "/compare?model_id=" not in alone
    assert "/compare?model_id=org/model" in together


def test_the_better_result_is_lower_in_a_chart_of_any_size_and_the_source_is_below_both(
    job_store: MemoryJobStore,
) -> None:
    jobs = [finished.succeeded(job_store) for _ in range(2)]
    reports = [finished.report(perplexity=value).model_dump(mode="json") for value in (39.0, 38.0)]
    found = candidates(jobs, reports)

    charts = [scatter_chart(found, quality(found), extent=extent) for extent in (WIDE, NARROW)]

    assert all(chart is not None and chart.source_y is not None for chart in charts)
    heights = [(chart.dots[0].y, chart.dots[1].y, chart.source_y) for chart in charts if chart is not None]
    assert all(worse < better < (source or 0) for worse, better, source in heights)
