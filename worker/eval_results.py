"""`.eval_results/*.yaml`: scores on registered benchmarks, as the Hub shows them on the page of a model.

Source: the Hub's documentation of evaluation results (hub-docs, docs/hub/eval-results.md). Only a whole benchmark by
the number its leaderboard ranks by counts; for everything else there is `evaluation.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from srr_core.evaluation_report import EvaluationReport
from srr_core.report import Measurement

FOLDER = ".eval_results"
_LIMITED = ", the first of "
"""What the protocol of a task says where not all of its questions were asked."""


@dataclass(frozen=True)
class Benchmark:
    """A data set of the Hub that keeps a leaderboard."""

    dataset_id: str
    task_id: str
    """In the `eval.yaml` of the data set."""


BENCHMARKS: Final[Mapping[str, Benchmark]] = MappingProxyType(
    {
        "gsm8k:exact_match,strict-match": Benchmark("openai/gsm8k", "gsm8k"),
        "mmlu_pro:exact_match,custom-extract": Benchmark("TIGER-Lab/MMLU-Pro", "mmlu_pro"),
        "gpqa_diamond_zeroshot:acc": Benchmark("Idavidrein/gpqa", "gpqa_diamond"),
        "leaderboard_gpqa_diamond:acc_norm": Benchmark("Idavidrein/gpqa", "gpqa_diamond"),
    }
)
"""By the metrics of our evaluators. GLUE, WikiText and the tasks of our own tables have no leaderboard of this kind."""


def write_eval_results(directory: Path, report: EvaluationReport, *, source_url: str | None) -> tuple[str, ...]:
    """Write a file for each registered benchmark that was measured as a whole, and return their names.

    Args:
        source_url: Where the report will be.
    Raises:
        OSError: the folder cannot be written.
    """
    found: dict[str, Measurement] = {}
    for row in report.measurements:
        if row.metric in BENCHMARKS and _LIMITED not in row.protocol:
            # Of two readings of one benchmark the first counts.
            found.setdefault(BENCHMARKS[row.metric].task_id, row)
    for task_id, row in found.items():
        entry = _entry(report, row, BENCHMARKS[row.metric], source_url)
        text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
        (directory / FOLDER).mkdir(exist_ok=True)
        (directory / FOLDER / f"{task_id}.yaml").write_text(text, encoding="utf-8")
    return tuple(f"{FOLDER}/{task_id}.yaml" for task_id in found)


def _revision(report: EvaluationReport, dataset_id: str) -> str | None:
    # The oldest data sets are also known by their last name, as tasks of the harness write them.
    found = report.datasets
    return found.get(dataset_id) or found.get(dataset_id.rpartition("/")[2]) or None


def _entry(report: EvaluationReport, row: Measurement, benchmark: Benchmark, source_url: str | None) -> EvalResultEntry:
    return EvalResultEntry(
        dataset_id=benchmark.dataset_id,
        task_id=benchmark.task_id,
        value=round(100 * row.compressed, 2),
        dataset_revision=_revision(report, benchmark.dataset_id),
        source_url=source_url,
        source_name="evaluation.json" if source_url is not None else None,
        notes=row.protocol,
    )
