"""The page of a finished compression: verdict first, four numbers, how to use it, and what now."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Job
from service.jobs.work import CompressWork, JobDestination
from service.web.other_bits import other_bits, with_other_bits
from service.web.result import report_tiles, result_view
from srr_core.telling.verdict import verdict
from tests.service import finished
from tests.srr_core.telling import reports

pytestmark = pytest.mark.usefixtures("org_model")


def compression(job: Job) -> CompressWork:
    assert isinstance(job.work, CompressWork)
    return job.work


def test_the_verdict_stands_before_everything_else(http: TestClient, job_store: MemoryJobStore) -> None:
    document = reports.report()
    job = finished.succeeded(job_store, document=document)

    page = http.get(f"/jobs/{job.id}").text

    lead, _, rest = verdict(document).sentence.partition(": ")
    words = [lead, rest.split(",", maxsplit=1)[0], "KL 0.0127", "Use it", "Progress", "Log"]
    places = [page.index(word) for word in words]
    assert places == sorted(places)


def test_the_tiles_say_quality_size_bits_and_time(job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    quality, size, bits, time = report_tiles(job, reports.report())

    assert (quality.value, quality.notes[1]) == ("KL 0.0127", "Perplexity +2.7 %")
    assert (size.value, size.notes) == ("4.8 MiB", ("38 % of the source's 12.4 MiB",))
    assert (bits.value, bits.notes[1]) == ("6.15", "4.00 over the compressed weights")
    assert time.notes[0] == "On cpu"


def test_what_was_not_measured_is_said(job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)

    quality = report_tiles(job, reports.report(measurements=()))[0]

    assert quality.value == "Not measured"


def test_every_snippet_is_text_that_can_be_selected_and_has_a_button_of_its_own(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    job = finished.succeeded(job_store, document=reports.report())

    page = http.get(f"/jobs/{job.id}").text

    snippets = re.findall(r'<code id="([\w-]+)">', page)
    assert len(snippets) >= 5
    assert re.findall(r'data-copy="([\w-]+)"', page) == snippets
    assert f"hf download org/model-srr --revision {'b' * 40} --local-dir model-srr" in page


def test_a_result_in_a_folder_is_named_by_its_folder(job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)
    assert job.result is not None
    here = job.model_copy(update={"result": job.result.model_copy(update={"commit_url": "file:///data/hub/out"})})

    view = result_view(here, compression(here), reports.report(), owner="local")

    assert (view.folder, view.download) == ("/data/hub/out", None)
    assert 'load("/data/hub/out")' in view.loadings[0].steps[0].text


@pytest.mark.parametrize(
    ("architecture", "source_bytes", "asks"),
    [
        ("LlamaForCausalLM", 8_000_000_000, True),
        ("LlamaForCausalLM", 9_000_000_000, False),
        ("BertForMaskedLM", 1, False),
    ],
)
def test_a_prompt_is_asked_for_where_both_can_answer(
    http: TestClient, job_store: MemoryJobStore, architecture: str, source_bytes: int, asks: bool
) -> None:
    made = reports.report()
    source = made.source.model_copy(update={"architecture": architecture})
    sizes = made.size_bytes.model_copy(update={"source": source_bytes})
    job = finished.succeeded(job_store, document=made.model_copy(update={"source": source, "size_bytes": sizes}))

    assert ("Answer with both" in http.get(f"/jobs/{job.id}").text) is asks


def test_one_bit_more_or_less_opens_the_form_with_everything_else_as_it_was(
    http: TestClient, job_store: MemoryJobStore
) -> None:
    options = {"rank": 16, "calibration": {"num_sequences": 7}}
    job = finished.succeeded(job_store, options=options, tags=("nightly",))
    work = compression(job)

    page = http.get(f"/jobs/{job.id}").text
    links = re.findall(r'href="(/\?from=[^"]+)"', page)
    forms = [http.get(link.replace("&amp;", "&")).text for link in links if "bits" in link]

    assert [parse_qs(urlsplit(link.replace("&amp;", "&")).query).get("bits") for link in links] == [
        None,
        ["less"],
        ["more"],
    ]
    for form, bits in zip(forms, (2, 4), strict=True):
        assert f'name="num_bits" type="number" inputmode="numeric" min="2" max="8" value="{bits}"' in form
        assert f'name="again" value="{job.id}"' in form
        assert 'value="nightly"' in form
    more = with_other_bits(job, work, "more", owner="local")
    assert more is not None
    assert more["repo_id"] != work.destination.repo_id


def test_a_name_that_the_form_found_is_found_anew(job_store: MemoryJobStore) -> None:
    job = finished.succeeded(job_store)
    work = compression(job)
    named = work.model_copy(update={"destination": JobDestination(repo_id="org/model-srr-8.1bit")})

    changed = [with_other_bits(job, one, "less", owner="local") for one in (work, named)]

    assert [values and values["repo_id"] for values in changed] == ["org/model-srr-2bit", ""]


@pytest.mark.parametrize(
    ("recipe", "options", "offered"),
    [
        ("srr", {"quantizer": {"num_bits": 2}}, ["3 bits"]),
        ("srr", {"quantizer": {"num_bits": 8}}, ["7 bits"]),
        ("quip-sharp", {}, ["3 bits"]),
        ("srr-fast", {"budget": {"target_bits": 3.5}}, ["2.5 bits", "4.5 bits"]),
        ("srr-fast", {"budget": {"target_bits": None, "target_kl": 0.02}}, []),
    ],
)
def test_only_bits_that_the_recipe_takes_are_offered(
    job_store: MemoryJobStore, recipe: str, options: dict[str, object], offered: list[str]
) -> None:
    job = finished.succeeded(job_store, recipe=recipe, options=options)

    assert [other.words for other in other_bits(job, compression(job), owner="local")] == offered
