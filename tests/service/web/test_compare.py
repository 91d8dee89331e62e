"""Results of one model side by side."""

import re

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Job
from service.web.comparing import NARROW, WIDE, candidates, quality, scatter_chart
from service.web.layer_differences import difference_charts, layer_rows
from srr_core.recipe import named_recipe
from srr_core.report import BaselineReport, LayerSpectrum, Report
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

    assert headings(both)[:1] == ["Perplexity per token against bits per weight"]
    assert headings(mixed)[:1] == ["Mean output error against size of the files"]


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


def test_the_quality_is_chosen_in_the_address(http: TestClient, job_store: MemoryJobStore) -> None:
    jobs = [finished.succeeded(job_store, document=finished.diverging(value)) for value in (0.02, 0.04)]
    chosen = {"job": [job.id for job in jobs]}

    usual = http.get("/compare", params=chosen).text
    perplexity = http.get("/compare", params={**chosen, "metric": "token_perplexity@32", "by": "size"}).text
    error = http.get("/compare", params={**chosen, "metric": "error"}).text
    unknown = http.get("/compare", params={**chosen, "metric": "no such metric"}).text

    assert headings(usual)[0] == "Divergence from the source against bits per weight"
    assert headings(perplexity)[0] == "Perplexity per token against size of the files"
    assert headings(error)[0] == "Mean output error against bits per weight"
    assert headings(unknown)[0] == headings(usual)[0]
    assert '<option value="token_perplexity@32" selected>' in perplexity


def test_a_result_without_the_chosen_quality_is_in_the_table_and_not_in_the_chart(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    jobs = [
        finished.succeeded(job_store, document=document)
        for document in (finished.diverging(0.02), finished.diverging(0.04), finished.report())
    ]

    page = http.get("/compare", params={"job": [job.id for job in jobs], "metric": "divergence@32"}).text

    assert page.count('class="mark" cx=') == 2 * 2
    assert "1 of 3 lack it" in page
    assert all(f"/jobs/{job.id}/report" in page for job in jobs)


def test_one_protocol_is_not_drawn_beside_another(job_store: MemoryJobStore) -> None:
    first, other = finished.diverging(0.02), finished.diverging(0.04)
    other = other.model_copy(
        update={"measurements": (other.measurements[0].model_copy(update={"protocol": "in bfloat16"}),)}
    )
    jobs = [finished.succeeded(job_store) for _ in range(2)]

    shown = quality(candidates(jobs, [one.model_dump(mode="json") for one in (first, other)]), "divergence@32")

    assert sorted(shown.values, key=str) == [0.02, None]


def test_layers_are_compared_with_those_of_the_result_that_the_address_names(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    def with_error(error: float) -> Report:
        report = finished.report()
        return report.model_copy(update={"layers": (report.layers[0].model_copy(update={"output_error": error}),)})

    worse, better = (finished.succeeded(job_store, document=with_error(error)) for error in (0.3, 0.1))
    chosen = {"job": [worse.id, better.id]}

    against_worse = http.get("/compare", params={**chosen, "base": worse.id}).text
    against_better = http.get("/compare", params={**chosen, "base": better.id}).text

    assert "model.layers.0.mlp.up_proj: -0.2000" in against_worse
    assert "is better in 1 of 1 layer." in against_worse
    assert "model.layers.0.mlp.up_proj: +0.2000" in against_better
    assert "is better in 0 of 1 layer." in against_better


def test_layers_that_only_one_result_has_are_in_the_table_and_not_in_the_chart() -> None:
    one, other = finished.report(layer_name="model.layers.10.a"), finished.report(layer_name="model.layers.9.a")

    assert difference_charts(one, [other]) == [None]
    assert [(row.name, row.errors) for row in layer_rows([one, other])] == [
        ("model.layers.9.a", (None, 0.0625)),
        ("model.layers.10.a", (0.0625, None)),
    ]


def test_a_smaller_error_is_drawn_below_the_middle_and_a_larger_one_above() -> None:
    def of(*errors: float) -> Report:
        report = finished.report()
        names = (f"model.layers.{number}.a" for number in range(len(errors)))
        layers = tuple(
            report.layers[0].model_copy(update={"name": name, "output_error": error})
            for name, error in zip(names, errors, strict=True)
        )
        return report.model_copy(update={"layers": layers})

    (chart,) = difference_charts(of(0.2, 0.2), [of(0.1, 0.4)])

    assert chart is not None
    below, above = chart.bars
    assert (below.y, above.y + above.height) == (chart.middle, chart.middle)
    assert above.height == pytest.approx(2 * below.height)


def beside(store: MemoryJobStore, *, size_bytes: int) -> Job:
    """Return a job that one method ran beside."""
    document = finished.diverging(0.02)
    baseline = BaselineReport(
        recipe=named_recipe("gptq"),
        bits_per_weight=4.25,
        size_bytes=size_bytes,
        mean_output_error=0.05,
        measurements=(document.measurements[0].model_copy(update={"compressed": 0.03}),),
        seconds=1.0,
    )
    return finished.succeeded(store, document=document.model_copy(update={"baselines": (baseline,)}))


def test_a_baseline_can_be_chosen_and_is_shown_beside_its_job(http: TestClient, job_store: MemoryJobStore) -> None:
    job = beside(job_store, size_bytes=6_291_456)

    without = http.get("/compare", params={"job": job.id}).text
    both = http.get("/compare", params={"job": job.id, "baseline": f"{job.id}:gptq"}).text

    assert f'value="{job.id}:gptq"' in without
    assert (without.count('class="mark"'), both.count('class="mark"')) == (1 * 2, 2 * 2)
    assert "20 % larger than" in both
    assert "gptq: 9.60 over the whole model, 4.25 in the compressed layers, 6.0 MiB" in both


def test_files_as_large_as_the_others_say_nothing_of_it(http: TestClient, job_store: MemoryJobStore) -> None:
    job = beside(job_store, size_bytes=5_300_000)

    page = http.get("/compare", params={"job": job.id, "baseline": f"{job.id}:gptq"}).text

    assert "larger than" not in page


def test_a_baseline_of_a_strangers_job_cannot_be_compared(http: TestClient, job_store: MemoryJobStore) -> None:
    other = finished.succeeded(job_store, owner="somebody")

    assert http.get("/compare", params={"baseline": f"{other.id}:gptq"}).status_code == 404
    assert http.get("/compare", params={"baseline": "nonsense"}).status_code != 200


def test_another_job_of_the_same_source_stands_on_the_picture_of_a_report(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    first = finished.succeeded(job_store, document=finished.diverging(0.02))
    second = finished.succeeded(job_store, document=finished.diverging(0.05, size_bytes=4_000_000))

    page = http.get(f"/jobs/{second.id}/report").text
    table = http.get(f"/jobs/{second.id}/report/picture", params={"ending": "csv"}).text

    assert f"/jobs/{first.id}/report" in page
    assert "31 % larger than this artifact" in page
    assert ",earlier," in table


def test_the_singular_values_of_a_layer_are_a_click_away_without_a_script(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    whole = finished.report(layer_name="model.layers.0.mlp.up&proj")
    layer = whole.layers[0].model_copy(update={"spectrum": LayerSpectrum(weight=(0.6, 0.2), error=(0.03,))})
    job = finished.succeeded(job_store, document=whole.model_copy(update={"layers": (layer,)}))
    address = f"/jobs/{job.id}/report?layer=model.layers.0.mlp.up%26proj"

    plain, clicked = http.get(f"/jobs/{job.id}/report").text, http.get(address).text
    table = http.get(
        f"/jobs/{job.id}/report/picture", params={"name": "spectrum", "layer": layer.name, "ending": "csv"}
    ).text

    assert f'href="{address}#spectrum"' in plain
    assert ("<h2>Singular values</h2>" in plain, "<h2>Singular values</h2>" in clicked) == (False, True)
    assert table.splitlines()[1] == "1,0.6,0.03"
