"""`srr report` of a folder: words, files, and what it says where there is nothing to tell."""

import json
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI

from service.cli import main
from service.jobs.memory_store import MemoryJobStore
from tests.hub_server.server import HubServer
from tests.service import finished
from tests.service.serving import served


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, command: str = "report") -> int:
    monkeypatch.setattr(sys, "argv", ["srr", command, *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A folder with a report, and without anything it is about."""
    (tmp_path / "report.json").write_text(finished.report().model_dump_json(), encoding="utf-8")
    return tmp_path


def test_a_folder_is_told_in_the_words_of_the_page(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(monkeypatch, str(artifact))

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[1].startswith("bits        8.00 over the whole model, 9.25 in the compressed layers (3.25 codes")
    assert lines[2] == "size        5.0 MiB (from 10.0 MiB, 50 % of it)"
    assert lines[-1].startswith("verdict     No divergence was measured")


@pytest.mark.parametrize("ending", ["md", "html"])
def test_a_file_is_the_same_byte_for_byte_twice(artifact: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    first, second = artifact / f"first.{ending}", artifact / f"second.{ending}"

    assert run(monkeypatch, str(artifact), "--output", str(first)) == 0
    assert run(monkeypatch, str(artifact / "report.json"), "-o", str(second)) == 0

    assert first.read_bytes() == second.read_bytes()
    assert b"org/model, compressed" in first.read_bytes()


@pytest.mark.parametrize(
    ("report", "options", "message"),
    [
        (None, (), "holds none of report.json"),
        ("nonsense", (), "cannot be read"),
        ("[]", (), "it holds no JSON object"),
        ("{}", (), "cannot be read"),
        (finished.report().model_dump_json(), ("-o", "report.pdf"), "must end in .md, .html or .json"),
    ],
)
def test_what_cannot_be_told_is_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    report: str | None,
    options: tuple[str, ...],
    message: str,
) -> None:
    if report is not None:
        (tmp_path / "report.json").write_text(report, encoding="utf-8")

    code = run(monkeypatch, str(tmp_path), *options)

    said = capsys.readouterr().err
    assert code != 0
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_word_that_is_no_place_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "nowhere") == 2
    assert "name a job by its id, a folder, or a repository" in capsys.readouterr().err


def test_a_published_report_is_read_from_the_hub_of_the_settings(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVICE_HUB_URL", hub_server.url)
    content = finished.report().model_dump_json().encode()
    hub_server.add_model("acme/model-srr", {"report.json": content}, private=True)
    hub_server.add_model("org/other", {"config.json": b"{}"})

    assert run(monkeypatch, "acme/model-srr", "--hub-token", "hf_alice") == 0
    assert "verdict" in capsys.readouterr().out
    for repo_id, reason in (
        ("org/other", "no such file"),
        ("org/nowhere", "does not exist"),
        ("acme/model-srr", "private"),
    ):
        assert run(monkeypatch, repo_id) == 1
        said = capsys.readouterr().err
        assert reason in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("content", [finished.evaluation(), finished.tuning()])
def test_reports_of_other_kinds_are_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: object
) -> None:
    (tmp_path / "found.json").write_text(content.model_dump_json(), encoding="utf-8")  # type: ignore[attr-defined]

    assert run(monkeypatch, str(tmp_path / "found.json")) == 0
    assert capsys.readouterr().out.count("\n") >= 2


def test_a_finished_job_is_told_in_the_words_of_its_pages(
    application: FastAPI,
    job_store: MemoryJobStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = finished.succeeded(job_store)

    def said(command: str, *arguments: str) -> str:
        assert run(monkeypatch, *arguments, "--url", url, command=command) == 0
        return capsys.readouterr().out

    with served(application) as url:
        status, listed = said("status", job.id), said("status")
        told, stored = said("report", job.id), said("report", job.id, "--json")

    assert "state:       Succeeded" in status
    assert "bits:        8.00 over the whole model, 9.25 in the compressed layers" in status
    assert "5.0 MiB" in listed
    assert told.splitlines()[-1].startswith("verdict     ")
    assert json.loads(stored) == finished.report().model_dump(mode="json")
