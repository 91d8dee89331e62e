"""Tasks and suites of lm-evaluation-harness as rows: value, source, recovery, and the mean of a suite."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from srr_core.evaluation_report import EvaluationRow
from srr_core.evaluators.harness.package import harness_version
from srr_core.evaluators.harness.resolve import ResolvedTasks, resolve_tasks
from srr_core.evaluators.harness.run import HarnessOptions, TaskScore, check_data, run_tasks
from srr_core.evaluators.opened import OpenedModel
from srr_core.evaluators.paired import paired_difference
from srr_core.evaluators.source_cache import digest_of
from srr_core.evaluators.subject import (
    Evaluator,
    Files,
    Subject,
    bos_setting,
    recovery,
    require_next_token_model,
    window,
)
from srr_core.recipe.evaluations import HarnessSpec
from srr_core.recipe.task_suites import SUITES, Suite


class HarnessEvaluator(Evaluator):
    """Runs the tasks on the whole model in memory, packed."""

    kind: ClassVar[str] = "harness"

    def __init__(self, spec: HarnessSpec) -> None:
        self._spec = spec

    @property
    def _suite(self) -> Suite | None:
        return None if self._spec.tasks else SUITES[self._spec.suite or "quick"]

    def needed_datasets(self, files: Files) -> tuple[str, ...]:
        """Return what must be fetched; nothing for tasks with files of their own."""
        return self._tasks(files).datasets

    def check(self, subject: Subject) -> None:
        """Refuse models that predict no next token, unknown tasks, code, and data that is missing."""
        require_next_token_model(subject, self.kind)
        check_data(self._tasks(subject.files), subject.data)

    def measure(self, subject: Subject) -> tuple[EvaluationRow, ...]:
        """Return the mean of a suite first, then every task."""
        tasks = self._tasks(subject.files)
        options = self._options(subject)

        def run(opened: OpenedModel) -> list[dict[str, Any]]:
            with subject.loaded(opened) as model:
                scores = run_tasks(
                    model, opened.tokenizer, tasks, subject.data, options, after_batch=subject.check_stop
                )
            return [asdict(score) for score in scores]

        facts = {
            "kind": self.kind,
            "options": asdict(options),
            "version": harness_version(),
            "tasks": digest_of(f"{leaf.name} {leaf.config} {leaf.data_digest()}" for leaf in tasks.leaves.values()),
            "datasets": {name: subject.data.revision(name) for name in tasks.datasets},
        }
        before = subject.of_source(facts, lambda: {"scores": run(_of(subject))})
        after = [_score(row) for row in run(subject.model)]
        source = {} if before is None else {_key(row): row for row in map(_score, before["scores"])}
        chosen = after if self._suite is None else _chosen(after, self._suite)
        rows = tuple(_row(score, source.get(_key(score))) for score in chosen)
        return rows if self._suite is None or len(rows) < 2 else (_mean(self._name(), rows), *rows)

    def _name(self) -> str:
        return f"mean of {self._spec.suite or 'quick'}"

    def _tasks(self, files: Files) -> ResolvedTasks:
        return resolve_tasks(self._spec.names, task_folder=files.task_folder)

    def _options(self, subject: Subject) -> HarnessOptions:
        suite = self._suite
        shots = self._spec.num_fewshot
        return HarnessOptions(
            num_fewshot=shots if shots is not None or suite is None else suite.num_fewshot,
            limit=self._spec.limit,
            batch_size=self._spec.batch_size,
            max_length=min(window(opened, self._spec.max_length) for opened in subject.models()),
            add_bos_token=bos_setting(self._spec.add_bos_token, subject.model),
        )


def _of(subject: Subject) -> OpenedModel:
    return subject.model if subject.source is None else subject.source


def _score(row: Mapping[str, Any]) -> TaskScore:
    return TaskScore(**{**row, "samples": tuple(row["samples"])})


def _key(score: TaskScore) -> tuple[str, str, str]:
    return score.task, score.metric, score.filter


def _chosen(scores: Sequence[TaskScore], suite: Suite) -> list[TaskScore]:
    by_key = {_key(score): score for score in scores}
    return [by_key[task.name, task.metric, task.filter] for task in suite.tasks]


def _row(score: TaskScore, source: TaskScore | None) -> EvaluationRow:
    suffix = "" if score.filter == "none" else f",{score.filter}"
    error: float | None = None
    if source is not None and score.samples and len(score.samples) == len(source.samples):
        paired = paired_difference(score.samples, source.samples, [1] * len(score.samples))
        error = paired.standard_error if math.isfinite(paired.standard_error) else None
    before = None if source is None else source.value
    return EvaluationRow(
        evaluator=HarnessEvaluator.kind,
        name=f"{score.task}:{score.metric}{suffix}",
        protocol=score.protocol,
        value=score.value,
        source=before,
        standard_error=score.standard_error,
        difference=None if before is None else score.value - before,
        difference_error=error,
        recovery_percent=recovery(score.value, before, higher_is_better=score.higher_is_better),
        higher_is_better=score.higher_is_better,
        samples=len(score.samples) or None,
    )


def _mean(name: str, rows: Sequence[EvaluationRow]) -> EvaluationRow:
    sources = [row.source for row in rows]
    source = None if None in sources else sum(value for value in sources if value is not None) / len(rows)
    value = sum(row.value for row in rows) / len(rows)
    return EvaluationRow(
        evaluator=HarnessEvaluator.kind,
        name=name,
        protocol=f"plain mean of the {len(rows)} tasks below, each as said there",
        value=value,
        source=source,
        standard_error=_of_mean(rows, lambda row: row.standard_error),
        difference=None if source is None else value - source,
        difference_error=_of_mean(rows, lambda row: row.difference_error),
        recovery_percent=recovery(value, source, higher_is_better=True),
        higher_is_better=True,
        samples=len(rows),
    )


def _of_mean(rows: Sequence[EvaluationRow], error: Callable[[EvaluationRow], float | None]) -> float | None:
    errors = [error(row) for row in rows]
    return None if None in errors else math.sqrt(sum(e * e for e in errors if e is not None)) / len(rows)
