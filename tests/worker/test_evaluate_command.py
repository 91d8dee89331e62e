"""`srr evaluate`, as a user types it, with and without a hub."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from service.cli import app
from service.commands.output import CommandError
from service.hub.client import HubClient
from service.hub.errors import HubUnavailableError, NoSafetensorsError, RemoteCodeError
from srr_core.errors import EvaluationError, RecipeError
from srr_core.evaluation_report import EvaluationReport
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, override
from tests.hub_server import HubServer
from tests.hub_server.fixtures import Sleeps
from tests.pico import build_checkpoint, write_text
from worker.evaluated_model import fetch_evaluated

SMALL = {"rank": 4, "calibration": {"num_sequences": 4, "sequence_length": 16, "batch_size": 2}, "evaluation": None}
WINDOWS = ["--set", "perplexity.sequence_length=32", "--set", "perplexity.num_sequences=3"]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    source = build_checkpoint(folder / "source", dtype=torch.float32)
    compress(source, override(PRESETS["srr"], SMALL), folder / "out", calibration_text=write_text(folder / "text.txt"))
    return folder / "out"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeps: Sleeps) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SRR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("worker.evaluate_command.HubClient", lambda: HubClient("http://127.0.0.1:9", attempts=1))
    return tmp_path


def _online(monkeypatch: pytest.MonkeyPatch, server: HubServer) -> None:
    monkeypatch.setattr("worker.evaluate_command.HubClient", lambda: HubClient(server.url, attempts=1))


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["evaluate", *arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_an_artifact_is_measured_against_its_source(artifact: Path, here: Path) -> None:
    source = str(artifact.parent / "source")
    windows = ["--set", "divergence.sequence_length=32", "--set", "divergence.num_sequences=3", *WINDOWS]
    shown = _run(str(artifact), "--source", source, *windows)
    report = EvaluationReport.model_validate_json((here / "evaluation.json").read_bytes())
    divergence, _, row = report.measurements
    assert (divergence.metric, row.metric, row.samples) == ("divergence@32", "token_perplexity@32", 3)
    assert report.source is not None
    assert "token_perplexity@32" in shown
    assert "nats per token" in shown
    assert [file.suffix for file in (here / "cache" / "sources").iterdir()] == [".json"]


def test_json_is_the_report_that_is_written(artifact: Path, here: Path) -> None:
    printed = json.loads(_run(str(artifact), *WINDOWS, "--json", "--output", "mine.json"))
    assert printed == json.loads((here / "mine.json").read_text())


def test_a_suite_is_run_by_its_name(artifact: Path, here: Path) -> None:
    facts = json.loads(_run(str(artifact), "--suite", "quick", "--set", "harness.limit=2", "--json"))
    assert [row["metric"] for row in facts["measurements"]] == [
        "mean of quick",
        "srr_agreement:acc",
        "srr_completion:acc",
        "srr_arithmetic:exact_match",
    ]


def test_tasks_join_other_evaluators(artifact: Path, here: Path) -> None:
    shown = _run(
        str(artifact), "--evaluators", "perplexity", "--tasks", "srr_agreement, srr_completion", *WINDOWS,
        "--set", "harness.limit=2", "--json",
    )  # fmt: skip
    assert [row["evaluator"] for row in json.loads(shown)["measurements"]] == ["perplexity", "harness", "harness"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["--evaluators", "perplexty"], RecipeError, "there is no evaluator 'perplexty'; did you mean perplexity"),
        (["--set", "harness.limit=3"], RecipeError, "--set harness.limit is no field of an evaluator that runs"),
        (["--set", "perplexity.windows=3"], RecipeError, "windows"),
        (["--set", "perplexity.batch_size=0"], RecipeError, "batch_size"),
        (["--suite", "srr-6"], RecipeError, "suite"),
        (["--output", "nowhere/report.json"], CommandError, "there is no folder nowhere"),
        (["--source", "no-such-folder"], CommandError, "neither a folder nor a model like org/name"),
        (["--evaluators", "glue,perplexity", "--pairs", "dev.tsv"], EvaluationError, "these would run: perplexity"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], error: type[Exception], said: str, artifact: Path, here: Path
) -> None:
    (here / "dev.tsv").write_text("sentence\tlabel\nfine\t1\n")
    with pytest.raises(error, match=said) as refusal:
        _run(str(artifact), *arguments)
    assert "\n" not in str(refusal.value)


def test_without_a_model_only_datasets_can_be_fetched(here: Path) -> None:
    with pytest.raises(CommandError, match="--prefetch to fetch datasets only"):
        _run()


def test_without_network_it_says_what_would_run(artifact: Path, here: Path) -> None:
    with pytest.raises(CommandError) as refusal:
        _run(str(artifact), "--evaluators", "perplexity,harness,speed-memory", "--tasks", "gsm8k")
    said = str(refusal.value)
    assert said.startswith("harness needs datasets that are not in ")
    assert "The hub could not be reached for openai/gsm8k" in said
    assert "without network these would run: perplexity, speed-memory" in said
    assert "The suite quick needs none" in said


def test_datasets_are_prefetched_without_a_model(
    here: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, artifact: Path
) -> None:
    _online(monkeypatch, hub_server)
    rows = "".join(json.dumps({"page": f" = Page {i} = \n The river is {i} . \n"}) + "\n" for i in range(3))
    config = {"config_name": "wikitext-2-raw-v1", "data_files": [{"split": "test", "path": "test.jsonl"}]}
    readme = f"---\n{json.dumps({'configs': [config]})}\n---\n"
    files: dict[str, bytes | Path] = {"test.jsonl": rows.encode(), "README.md": readme.encode()}
    commit = hub_server.add_model("EleutherAI/wikitext_document_level", files)

    shown = _run("--prefetch", "--evaluators", "word-perplexity", "--data", "data")

    assert shown == f"EleutherAI/wikitext_document_level@{commit.oid}\nwritten     data\n"
    monkeypatch.setattr("worker.evaluate_command.HubClient", lambda: HubClient("http://127.0.0.1:9", attempts=1))
    facts = json.loads(_run(str(artifact), "--evaluators", "word-perplexity", "--data", "data", "--json"))
    assert facts["datasets"] == {"EleutherAI/wikitext_document_level": commit.oid}
    assert facts["measurements"][0]["samples"] == 3


def _files(folder: Path) -> dict[str, bytes | Path]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_models_of_a_hub_are_fetched_once_with_their_adapter(
    artifact: Path, here: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _online(monkeypatch, hub_server)
    hub_server.add_model("org/source", _files(artifact.parent / "source"))
    commit = hub_server.add_model("org/artifact", {**_files(artifact), "extra.py": b"raise SystemExit"})
    perplexity = ["--evaluators", "perplexity", *WINDOWS, "--json"]
    online = json.loads(_run("org/artifact", "--source", "org/source", *perplexity))
    local = json.loads(_run(str(artifact), "--source", str(artifact.parent / "source"), *perplexity))
    assert online["measurements"] == local["measurements"]
    assert online["model"]["sha"] == commit.oid
    assert not list(here.rglob("extra.py"))

    before = len(hub_server.requests)
    _run("org/artifact", "--revision", commit.oid, *WINDOWS)
    assert len(hub_server.requests) == before


def test_a_commit_that_is_here_is_named_when_the_hub_is_not(
    artifact: Path, tmp_path: Path, hub_server: HubServer, sleeps: Sleeps
) -> None:
    commit = hub_server.add_model("org/source", _files(artifact.parent / "source"))
    fetch_evaluated(HubClient(hub_server.url), "org/source", "main", tmp_path, token=None)
    away = HubClient("http://127.0.0.1:9", attempts=2, sleep=sleeps)
    with pytest.raises(HubUnavailableError, match=f"Commit {commit.oid} is on this machine: name it as revision"):
        fetch_evaluated(away, "org/source", "main", tmp_path, token=None)


def test_a_licence_against_derivatives_does_not_forbid_measuring(
    artifact: Path, tmp_path: Path, hub_server: HubServer
) -> None:
    card = b"---\nlicense: cc-by-nd-4.0\n---\n"
    hub_server.add_model("org/source", {**_files(artifact.parent / "source"), "README.md": card})
    folder, _ = fetch_evaluated(HubClient(hub_server.url), "org/source", "main", tmp_path, token=None)
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"config.json": b'{"architectures": ["Own"], "auto_map": {"AutoModel": "x.Own"}}'}, RemoteCodeError),
        ({"model.safetensors": None}, NoSafetensorsError),
    ],
)
def test_a_model_that_needs_code_is_not_fetched(
    change: dict[str, bytes | None], error: type[Exception], artifact: Path, tmp_path: Path, hub_server: HubServer
) -> None:
    files = {**_files(artifact.parent / "source"), **change}
    hub_server.add_model("org/source", {name: content for name, content in files.items() if content is not None})
    with pytest.raises(error):
        fetch_evaluated(HubClient(hub_server.url), "org/source", "main", tmp_path, token=None)
