"""Tasks and suites of lm-evaluation-harness as rows: value, source, recovery, and the mean of a suite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

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
from srr_core.recipe import Direction
from srr_core.recipe.evaluations import HarnessSpec
from srr_core.recipe.task_suites import SUITES, Suite
from srr_core.report import Measurement


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

    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
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


def _row(score: TaskScore, source: TaskScore | None) -> Measurement:
    suffix = "" if score.filter == "none" else f",{score.filter}"
    direction: Direction = "higher" if score.higher_is_better else "lower"
    before = None if source is None else source.value
    return Measurement(
        evaluator=HarnessEvaluator.kind,
        metric=f"{score.task}:{score.metric}{suffix}",
        title=f"{score.task}, {score.metric}{suffix}",
        unit="",
        direction=direction,
        source=before,
        compressed=score.value,
        difference=None if before is None else score.value - before,
        standard_error=score.standard_error if source is None else _difference_error(score, source),
        value_error=score.standard_error,
        protocol=score.protocol,
        samples=len(score.samples) or None,
        recovery_percent=recovery(score.value, before, direction=direction),
    )


def _difference_error(score: TaskScore, source: TaskScore) -> float | None:
    if len(score.samples) == len(source.samples) > 1:
        return paired_difference(score.samples, source.samples, [1] * len(score.samples)).standard_error
    # As if the models had seen different questions, which is the larger number: that of a pair is not known.
    errors = (score.standard_error, source.standard_error)
    return None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1])


def _mean(name: str, rows: Sequence[Measurement]) -> Measurement:
    sources = [row.source for row in rows if row.source is not None]
    source = sum(sources) / len(rows) if len(sources) == len(rows) else None
    value = sum(row.compressed for row in rows) / len(rows)
    return Measurement(
        evaluator=HarnessEvaluator.kind,
        metric=name,
        title=name.capitalize(),
        unit="",
        direction="higher",
        source=source,
        compressed=value,
        difference=None if source is None else value - source,
        standard_error=_of_mean([row.standard_error for row in rows]),
        value_error=_of_mean([row.value_error for row in rows]),
        protocol=f"plain mean of the {len(rows)} tasks below, each as said there",
        samples=len(rows),
        recovery_percent=recovery(value, source, direction="higher"),
    )


def _of_mean(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return math.hypot(*known) / len(errors) if len(known) == len(errors) else None
