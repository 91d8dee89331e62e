"""A conversion as a job: an artifact fetched whole, written in another format, and published with its report."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM

from examples import DEMO_MODEL
from service.hub.errors import DestinationConflictError
from service.jobs.reports import job_report
from service.jobs.schema import JobState
from service.jobs.work import ConvertWork, JobDestination, JobSource
from srr_core.conversion_report import ConversionReport
from srr_core.errors import ExportError, StopRequested
from srr_core.recipe import IntegerSpec
from srr_core.recipe.exporters import GGUFSpec, GPTQFormatSpec, MergedSpec
from srr_core.runtime import load
from tests.srr_core.exporters.artifacts import build_artifact, pico_llama
from tests.worker.shop import Shop

ARTIFACT = Path(__file__).parents[1] / "golden" / "v0.1" / "artifact"
SOURCE = JobSource(model_id="acme/pico-srr")
OUT = JobDestination(repo_id="me/out")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.source.import_model(ARTIFACT, SOURCE.model_id)
    return shop


def test_the_merged_form_is_the_same_model_for_everybody(shop: Shop) -> None:
    work = ConvertWork(source=SOURCE, target=MergedSpec(dtype="float32"), destination=OUT)

    done = shop.attempt(shop.submit(work))

    head = shop.destination.head("me/out")
    assert head is not None
    assert done.result is not None
    assert (done.state, done.progress, done.result.commit_sha) == (JobState.SUCCEEDED, 1.0, head.sha)
    snapshot = shop.destination.existing("me/out").snapshot(head.sha)
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        ours = load(ARTIFACT, dtype=torch.float32)(tokens).logits
        stock = AutoModelForCausalLM.from_pretrained(snapshot, dtype=torch.float32)(tokens).logits
    torch.testing.assert_close(stock, ours, atol=1e-4, rtol=1e-4)
    report = job_report(done, shop.store.report(done.id))
    assert isinstance(report, ConversionReport)
    assert json.loads((snapshot / "conversion.json").read_text()) == report.model_dump(mode="json")
    assert (report.model.made_from, report.model.sha) == ("acme/pico", done.work.source.sha)
    assert report.weight_bytes > report.model.weight_bytes
    assert shop.destination.destination("me/out").holds == "conversion"


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact on a grid that every format takes, with a tokenizer that llama.cpp knows."""
    folder = tmp_path_factory.mktemp("integers") / "artifact"
    build_artifact(folder, pico_llama(biases=False, vocab=4096), IntegerSpec(num_bits=4, group_size=32, symmetric=True))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / name, folder / name)
    return folder


def test_gptq_keeps_its_adapter_on_top_of_itself(shop: Shop, integers: Path) -> None:
    shop.source.import_model(integers, "acme/integers")
    work = ConvertWork(source=JobSource(model_id="acme/integers"), target=GPTQFormatSpec(), destination=OUT)

    done = shop.attempt(shop.submit(work))

    assert done.result is not None
    snapshot = shop.destination.existing("me/out").snapshot(done.result.commit_sha)
    assert json.loads((snapshot / "config.json").read_text())["quantization_config"]["quant_method"] == "gptq"
    # Anything else, and loaders would take Q from the artifact.
    assert json.loads((snapshot / "adapter_config.json").read_text())["base_model_name_or_path"] == "me/out"


def test_one_file_for_llama_cpp_says_what_was_rounded(shop: Shop, integers: Path) -> None:
    shop.source.import_model(integers, "acme/integers")
    work = ConvertWork(source=JobSource(model_id="acme/integers"), target=GGUFSpec(merged="q8_0"), destination=OUT)

    done = shop.attempt(shop.submit(work))

    assert done.result is not None
    snapshot = shop.destination.existing("me/out").snapshot(done.result.commit_sha)
    names = {tensor.name for tensor in GGUFReader(snapshot / "model.gguf").tensors}
    assert "blk.0.attn_q.weight" in names
    assert any("merged" in line for line in shop.log(done))
    assert done.result.numbers is not None
    assert done.result.numbers.size_bytes == (snapshot / "model.gguf").stat().st_size
    assert "llama-cli" in (snapshot / "README.md").read_text()


def test_a_format_that_cannot_hold_it_fails_with_the_reason_and_publishes_nothing(shop: Shop) -> None:
    with pytest.raises(ExportError, match="this artifact has 3 bits in groups of 16"):
        shop.attempt(shop.submit(ConvertWork(source=SOURCE, target=GPTQFormatSpec(), destination=OUT)))
    assert not list(shop.destination.repository_ids())


def test_it_stops_between_layers_and_the_next_attempt_makes_it_anew(shop: Shop) -> None:
    job = shop.submit(ConvertWork(source=SOURCE, target=MergedSpec(), destination=OUT))
    partial = shop.workspace.artifact.with_name(f".{shop.workspace.artifact.name}.partial")
    shop.asked_to_stop = partial.exists

    with pytest.raises(StopRequested, match="nothing of it was kept"):
        shop.attempt(job)
    assert not partial.exists()
    assert not shop.workspace.artifact.exists()

    shop.asked_to_stop = lambda: False
    again = shop.submit(ConvertWork(source=SOURCE, target=MergedSpec(), destination=OUT), force=True)
    assert shop.attempt(again).state is JobState.SUCCEEDED


def test_a_conversion_is_not_converted_and_takes_no_artifacts_place(shop: Shop) -> None:
    work = ConvertWork(source=SOURCE, target=MergedSpec(), destination=OUT)
    shop.attempt(shop.submit(work))
    made = shop.destination.existing("me/out").snapshot(shop.destination.head("me/out").sha)  # type: ignore[union-attr]
    shop.source.import_model(made, "acme/converted")
    with pytest.raises(ExportError, match="a conversion already"):
        shop.attempt(shop.submit(work.model_copy(update={"source": JobSource(model_id="acme/converted")})))

    shop.destination.import_model(ARTIFACT, "me/artifact")
    shop.tenancy.of("me").publish("me/artifact", with_own_token=False)
    with pytest.raises(DestinationConflictError, match="a compression of"):
        shop.attempt(
            shop.submit(work.model_copy(update={"destination": JobDestination(repo_id="me/artifact")}), force=True)
        )
