"""Scores on registered benchmarks, in the format that the Hub reads."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from srr_core.report import Measurement
from tests.service import finished
from worker.eval_results import BENCHMARKS, write_eval_results
from worker.hub import artifact_files

SHA = "c" * 40
WHOLE = "lm-eval 0.4.13, version 3, 5 examples in the prompt, 1319 questions"


def score(metric: str, value: float, protocol: str = WHOLE) -> Measurement:
    return Measurement(
        evaluator="harness",
        metric=metric,
        title=metric,
        unit="",
        direction="higher",
        source=None,
        compressed=value,
        protocol=protocol,
    )


def write(folder: Path, *rows: Measurement) -> tuple[str, ...]:
    report = finished.evaluation().model_copy(update={"measurements": rows, "datasets": {"gsm8k": SHA}})
    return write_eval_results(folder, report, source_url="https://hub.example/me/numbers/blob/main/evaluation.json")


def test_a_whole_benchmark_is_written_as_the_hub_reads_it(tmp_path: Path) -> None:
    names = write(tmp_path, score("gsm8k:exact_match,strict-match", 0.41243))

    assert names == (".eval_results/gsm8k.yaml",)
    (entry,) = parse_eval_result_entries(yaml.safe_load((tmp_path / names[0]).read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 41.24)
    assert (entry.dataset_revision, entry.notes) == (SHA, WHOLE)
    assert entry.source_url == "https://hub.example/me/numbers/blob/main/evaluation.json"


@pytest.mark.parametrize(
    "row",
    [
        score("gsm8k:exact_match,flexible-extract", 0.4),
        score("gsm8k:exact_match,strict-match", 0.4, f"{WHOLE}, the first of 1319"),
        score("sst2:accuracy", 0.9),
        finished.evaluation().measurements[0],
    ],
    ids=["another reading", "a part of it", "no leaderboard", "no task"],
)
def test_what_no_leaderboard_ranks_is_not_written(tmp_path: Path, row: Measurement) -> None:
    assert write(tmp_path, row) == ()
    assert list(tmp_path.iterdir()) == []


def test_two_readings_of_one_benchmark_are_one_file(tmp_path: Path) -> None:
    metrics = [metric for metric, benchmark in BENCHMARKS.items() if benchmark.task_id == "gpqa_diamond"]

    (name,) = write(tmp_path, *(score(metric, 0.3) for metric in metrics))

    assert len(yaml.safe_load((tmp_path / name).read_text())) == 1


def test_they_are_published_and_other_hidden_files_are_not(tmp_path: Path) -> None:
    write(tmp_path, score("gsm8k:exact_match,strict-match", 0.4))
    (tmp_path / ".eval_results" / ".cache").write_text("mine")
    (tmp_path / ".token").write_text("secret")

    assert list(artifact_files(tmp_path)) == [".eval_results/gsm8k.yaml"]
