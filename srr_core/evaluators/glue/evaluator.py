"""A classifier on its task of GLUE as rows."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedModel

from srr_core.errors import EvaluationError
from srr_core.evaluators.dataset_folder import load_dataset, require_splits
from srr_core.evaluators.glue.classify import PROTOCOL, class_order, predict
from srr_core.evaluators.glue.data import Example, examples_from_rows, read_examples
from srr_core.evaluators.glue.metrics import BOOTSTRAP_ROUNDS, METRICS, standard_error
from srr_core.evaluators.opened import OpenedModel
from srr_core.evaluators.source_cache import digest_of
from srr_core.evaluators.subject import Evaluator, Files, Subject, recovery, window
from srr_core.recipe.evaluations import GlueSpec
from srr_core.recipe.glue_tasks import GLUE_DATASET, GLUE_TASKS
from srr_core.report import Measurement


class GlueEvaluator(Evaluator):
    """Data come from a file of the caller's, or from the data folder."""

    kind: ClassVar[str] = "glue"

    def __init__(self, spec: GlueSpec) -> None:
        self._spec = spec
        self._task = GLUE_TASKS[spec.task]

    def needed_datasets(self, files: Files) -> tuple[str, ...]:
        """Return GLUE, unless the caller has a file."""
        return () if files.pairs is not None else (GLUE_DATASET,)

    def check(self, subject: Subject) -> None:
        """Refuse models that are no classifier with the outputs of the task, and data without labels."""
        for opened in subject.models():
            _require_outputs(opened, self._spec)
        self._examples(subject)

    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
        """Return one row per metric of the task."""
        examples = self._examples(subject)
        length = min(window(opened, self._spec.max_length) for opened in subject.models())
        protocol = PROTOCOL.format(task=self._task.name, count=len(examples), length=length, rounds=BOOTSTRAP_ROUNDS)

        def run(opened: OpenedModel) -> list[float]:
            with subject.loaded(opened) as model:
                answers = predict(
                    model,
                    opened.tokenizer,
                    self._task,
                    examples,
                    batch_size=self._spec.batch_size,
                    max_length=length,
                    after_batch=subject.check_stop,
                )
            return [float(answer) for answer in answers]

        facts = {"kind": self.kind, "protocol": protocol, "examples": digest_of(map(repr, examples))}
        found = subject.of_source(facts, lambda: {"answers": run(subject.source or subject.model)})
        before = None if found is None else np.array(found["answers"])
        after, wanted = np.array(run(subject.model)), np.array([example.label for example in examples])
        return tuple(self._row(name, protocol, after, before, wanted) for name in self._task.metrics)

    def _row(self, name: Any, protocol: str, after: Any, before: Any, wanted: Any) -> Measurement:
        metric = METRICS[name]
        value = metric(after, wanted)
        source = None if before is None else metric(before, wanted)
        error = standard_error(metric, after, wanted)
        return Measurement(
            evaluator=self.kind,
            metric=f"{self._task.name}:{name}",
            title=f"{name.capitalize()} on {self._task.name.upper()}",
            unit="",
            direction="higher",
            source=source,
            compressed=value,
            difference=None if source is None else value - source,
            standard_error=error if before is None else standard_error(metric, after, wanted, other=before),
            value_error=error,
            protocol=protocol,
            samples=len(wanted),
            recovery_percent=recovery(value, source, direction="higher"),
        )

    def _examples(self, subject: Subject) -> Sequence[Example]:
        if subject.files.pairs is not None:
            return read_examples(subject.files.pairs, self._task)[: self._spec.limit]
        folder = subject.data.location(GLUE_DATASET)
        subject.data.require_writable_cache()
        called = f"{GLUE_DATASET} {self._task.name}"
        splits = load_dataset(str(folder), self._task.name, cache=subject.data.cache, options={}, called=called)
        split = self._spec.split or self._task.split
        require_splits(splits, {split: "to be scored on"}, called=called, task=self._task.name)
        rows = splits[split]
        count = len(rows) if self._spec.limit is None else min(self._spec.limit, len(rows))
        return examples_from_rows((rows[index] for index in range(count)), self._task, called=called)


def _require_outputs(opened: OpenedModel, spec: GlueSpec) -> None:
    try:
        model: PreTrainedModel = opened.architecture().model
        class_order(model, GLUE_TASKS[spec.task])
    except EvaluationError as error:
        raise EvaluationError(f"{opened.directory.name}: {error}") from error
