"""The smoke test runs what is installed, compares it with transformers, and never raises."""

import sys
from pathlib import Path

import pytest

from srr_core.errors import ExportError
from srr_core.pipeline import smoke
from srr_core.pipeline.smoke import SERVERS, Server, smoke_test, smoke_test_others
from srr_core.recipe import MXIntSpec
from srr_core.recipe.compatibility import TRANSFORMERS
from srr_core.recipe.servers import VLLM_PLUGIN
from tests.srr_core.exporters.artifacts import PicoArtifact, build_artifact, pico_llama

ANSWER = "import json; print(json.dumps({'tokens': TOKENS, 'version': 'other 1.0'}))"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> PicoArtifact:
    return build_artifact(tmp_path_factory.mktemp("artifact") / "a", pico_llama(), MXIntSpec(num_bits=4))


def _fixed(tokens: list[int], runtime: str = "other") -> Server:
    return Server(runtime, "json", ANSWER.replace("TOKENS", str(tokens)))


@pytest.mark.slow
def test_stock_transformers_continues_the_prompt_and_others_are_compared_with_it(artifact: PicoArtifact) -> None:
    first, again = smoke_test(artifact.directory, servers=(SERVERS[0], SERVERS[0]))

    assert (first.runtime, first.verdict, first.evidence) == (TRANSFORMERS, "yes", "run")
    assert first.versions.startswith("transformers ")
    assert again.reason == "smoke test: the same 8 tokens as transformers"


def test_a_server_that_differs_is_told_apart_and_not_refused(artifact: PicoArtifact) -> None:
    first, second = smoke_test(artifact.directory, servers=(_fixed([5, 6, 7, 8]), _fixed([5, 6, 9, 8])))

    assert first.reason == "smoke test: 4 tokens after a prompt of 16"
    assert (second.verdict, second.reason) == ("yes", "smoke test: as transformers for 2 of 4 tokens")
    assert second.versions == "other 1.0"


def test_what_is_not_installed_is_left_out(artifact: PicoArtifact) -> None:
    assert smoke_test(artifact.directory, servers=(Server("none", "no_such_server", ""),)) == ()
    (row,) = smoke_test(
        artifact.directory,
        servers=(Server("elsewhere", "no_such_server", ANSWER.replace("TOKENS", "[1]")),),
        interpreters={"no_such_server": sys.executable},
    )
    assert row.verdict == "yes"


def test_a_server_that_fails_is_a_no_with_its_last_words(
    artifact: PicoArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(artifact: Path, scratch: Path) -> Path:
        raise ExportError("no such type")

    broken = Server("broken", "json", "raise SystemExit('kernel not found')")
    unprepared = Server("unprepared", "json", "", refuse)
    rows = smoke_test(artifact.directory, servers=(broken, unprepared))

    assert [(row.verdict, row.evidence) for row in rows] == [("no", "run"), ("no", "run")]
    assert "ended with 1: kernel not found" in rows[0].reason
    assert rows[1].reason == "smoke test: no such type"
    monkeypatch.setattr(smoke, "TIME_LIMIT_SECONDS", 0.2)
    (late,) = smoke_test(
        artifact.directory, servers=(Server("late", "json", "import threading; threading.Event().wait()"),)
    )
    assert "no answer in" in late.reason


def test_with_transformers_alone_nothing_is_run_again(artifact: PicoArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "SERVERS", (_fixed([1], TRANSFORMERS), Server(VLLM_PLUGIN, "no_such_server", "")))
    assert smoke_test_others(artifact.directory) == ()


def test_nothing_is_left_beside_the_artifact(artifact: PicoArtifact) -> None:
    before = sorted(artifact.directory.parent.iterdir())
    smoke_test(artifact.directory, servers=(_fixed([1]),))
    assert sorted(artifact.directory.parent.iterdir()) == before
