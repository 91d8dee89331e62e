"""Tasks of lm-evaluation-harness on a model that is loaded already, with its weights packed as they are."""

import contextlib
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from srr_core.errors import EvaluationError, SrrError
from srr_core.evaluators.dataset_folder import DatasetFolder, load_dataset, require_splits
from srr_core.evaluators.harness.package import harness_module, harness_version, quiet
from srr_core.evaluators.harness.resolve import LeafTask, ResolvedTasks
from srr_core.recipe.task_suites import UNWEIGHTED_GROUPS

PROTOCOL = (
    "lm-eval {version}, task version {task_version}, {shots} examples in the prompt, {samples} questions{limited}; "
    "windows of at most {length} tokens, add_bos_token={add_bos_token}, batches of {batch}, seeds {seeds}"
)
SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
"""Those of lm-eval's command line, which the published tables use."""
BOOTSTRAP_ROUNDS = 1000
"""For metrics without a formula of their own; means have one. lm-eval's default is 100 000."""


@dataclass(frozen=True)
class HarnessOptions:
    """How tasks are run."""

    num_fewshot: int | None = None
    """None: what each task says."""
    limit: int | None = None
    """Questions of each task, from the first; None for all."""
    batch_size: int = 1
    max_length: int = 2048
    """Tokens of a window; the caller keeps it within the model's."""
    add_bos_token: bool = False
    """Whether a prompt begins with the tokenizer's special tokens; published tables have none but for Gemma."""


@dataclass(frozen=True)
class TaskScore:
    """One number of one task or group."""

    task: str
    metric: str
    filter: str
    value: float
    standard_error: float | None
    higher_is_better: bool
    protocol: str
    samples: tuple[float, ...] = ()
    """The value of every question, where the score is their mean; empty otherwise and for groups."""


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: ResolvedTasks,
    data: DatasetFolder,
    options: HarnessOptions,
    *,
    after_batch: Callable[[], None] | None = None,
) -> tuple[TaskScore, ...]:
    """Return every metric of the tasks asked for, and of the groups among them.

    Nothing is downloaded: datasets come from the folder or from the task's own files.

    Args:
        model: A causal language model; evaluated as it is.
        after_batch: Called after every forward pass; may raise to stop.
    Raises:
        EvaluationError: a dataset is missing, lacks a split or configuration, or a task cannot be run.
        StorageError: the cache cannot be written.
    """
    check_data(tasks, data)
    evaluator = harness_module("lm_eval.evaluator")
    with tempfile.TemporaryDirectory(prefix="srr-tasks-") as overlay, _translated():
        loaded = _load(tasks, data, Path(overlay), options)
        language_model = _language_model(model, tokenizer, options, after_batch)
        _set_seeds()
        with quiet():
            result = evaluator.evaluate(
                lm=language_model,
                task_dict=loaded,
                limit=options.limit,
                bootstrap_iters=BOOTSTRAP_ROUNDS,
                log_samples=True,
            )
    return tuple(_scores(tasks, result, options))


def check_data(tasks: ResolvedTasks, data: DatasetFolder) -> None:
    """Refuse before any model is loaded: every dataset is there, can be read, and has the splits.

    Raises:
        EvaluationError, StorageError: as `run_tasks`.
    """
    data.require_writable_cache()
    seen: dict[str, Mapping[str, Any]] = {}
    for leaf in tasks.leaves.values():
        source = leaf.dataset if leaf.is_local else str(data.location(leaf.dataset))
        options = leaf.options
        key = repr((source, leaf.dataset_name, options))
        if key not in seen:
            seen[key] = load_dataset(source, leaf.dataset_name, cache=data.cache, options=options, called=_called(leaf))
        require_splits(seen[key], leaf.needed_splits, called=_called(leaf), task=leaf.name)


def unweighted_mean(scores: Sequence[TaskScore], group: str) -> TaskScore:
    """Return the mean of tasks that each count the same, whatever their size."""
    first, count = scores[0], len(scores)
    errors = [score.standard_error for score in scores]
    error = None if None in errors else math.sqrt(sum(e * e for e in errors if e is not None)) / count
    return TaskScore(
        task=group,
        metric=first.metric,
        filter=first.filter,
        value=sum(score.value for score in scores) / count,
        standard_error=error,
        higher_is_better=first.higher_is_better,
        protocol=f"mean over {count} tasks, each counted the same; of each: {first.protocol}",
    )


def _called(leaf: LeafTask) -> str:
    return f"of {leaf.name}" if leaf.is_local else leaf.dataset


def _load(tasks: ResolvedTasks, data: DatasetFolder, overlay: Path, options: HarnessOptions) -> Any:
    # A task of the same name that includes the original and reads its data from here: lm-eval's own way to change one.
    documents: list[dict[str, Any]] = [{"include": str(file), "group": name} for name, file in tasks.groups.items()]
    for leaf in tasks.leaves.values():
        place = leaf.dataset if leaf.is_local else str(data.location(leaf.dataset))
        kwargs = {**leaf.options, "cache_dir": str(data.cache)}
        documents.append(
            {"include": str(leaf.file), "task": leaf.name, "dataset_path": place, "dataset_kwargs": kwargs}
        )
    for number, document in enumerate(documents):
        (overlay / f"{number}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with quiet():
        manager = harness_module("lm_eval.tasks").TaskManager(include_path=str(overlay), include_defaults=False)
        loaded = manager.load(list(tasks.asked))
    for task in loaded["tasks"].values():
        # As lm-eval's simple_evaluate does it, which also asks git for its version and pip for everything.
        says = task.get_config("num_fewshot")
        if options.num_fewshot is not None and says != 0:
            task.set_config(key="num_fewshot", value=options.num_fewshot)
        elif says is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=SEEDS["fewshot"])
    return loaded


def _language_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: HarnessOptions,
    after_batch: Callable[[], None] | None,
) -> Any:
    base = harness_module("lm_eval.models.huggingface").HFLM

    class Watched(base):  # type: ignore[misc, valid-type]  # lm-eval publishes no types
        """Says after every forward pass that it happened."""

        def _model_call(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._model_call(*args, **kwargs)
            if after_batch is not None:
                after_batch()
            return result

        def _model_generate(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._model_generate(*args, **kwargs)
            if after_batch is not None:
                after_batch()
            return result

    with quiet():
        return Watched(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=options.batch_size,
            max_length=options.max_length,
            add_bos_token=options.add_bos_token,
        )


def _set_seeds() -> None:
    random.seed(SEEDS["random"])
    np.random.seed(SEEDS["numpy"])  # the generator lm-eval's tasks draw from
    torch.manual_seed(SEEDS["torch"])


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SrrError, torch.OutOfMemoryError):
        raise
    except (KeyError, ValueError, TypeError, IndexError, AssertionError, AttributeError) as cause:
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())[:300]
        raise EvaluationError(f"the tasks cannot be run by lm-eval: {reason}") from cause


def _scores(tasks: ResolvedTasks, result: Mapping[str, Any], options: HarnessOptions) -> Iterator[TaskScore]:
    by_task = {name: tuple(_task_scores(name, result, options)) for name in tasks.leaves}
    for asked in tasks.asked:
        members = tasks.members[asked]
        if members == (asked,):
            yield from by_task[asked]
            continue
        if asked in UNWEIGHTED_GROUPS or asked not in result.get("groups", {}):
            for position in range(len(by_task[members[0]])):
                yield unweighted_mean([by_task[name][position] for name in members], asked)
        else:
            first = by_task[members[0]][0].protocol
            inside = {name: by_task[name] for name in members}
            yield from _group_scores(asked, len(members), result["groups"][asked], first, inside)


def _task_scores(name: str, result: Mapping[str, Any], options: HarnessOptions) -> Iterator[TaskScore]:
    row = result["results"][name]
    samples = result.get("samples", {}).get(name, [])
    counts = result["n-samples"][name]
    protocol = PROTOCOL.format(
        version=harness_version(),
        task_version=result["versions"].get(name, "unknown"),
        shots=result["n-shot"].get(name, 0),
        samples=counts["effective"],
        limited="" if counts["effective"] == counts["original"] else f", the first of {counts['original']}",
        length=options.max_length,
        add_bos_token=options.add_bos_token,
        batch=options.batch_size,
        seeds="/".join(map(str, SEEDS.values())),
    )
    better = result.get("higher_is_better", {}).get(name, {})
    for metric, chosen, value in _metrics(row):
        values = [sample.get(metric) for sample in samples if sample.get("filter") == chosen]
        scalars = tuple(float(v) for v in values if isinstance(v, bool | int | float | np.number))
        yield TaskScore(
            task=name,
            metric=metric,
            filter=chosen,
            value=value,
            standard_error=_error(row, metric, chosen),
            higher_is_better=better.get(metric) is not False,
            protocol=protocol,
            samples=scalars if _is_mean(scalars, len(values), value) else (),
        )


def _group_scores(
    group: str, size: int, row: Mapping[str, Any], protocol: str, by_task: Mapping[str, tuple[TaskScore, ...]]
) -> Iterator[TaskScore]:
    better = {score.metric: score.higher_is_better for scores in by_task.values() for score in scores}
    for metric, chosen, value in _metrics(row):
        # Weighed by size, which is the mean over all questions: they can be paired like those of one task.
        samples = tuple(
            sample
            for scores in by_task.values()
            for score in scores
            if (score.metric, score.filter) == (metric, chosen)
            for sample in score.samples
        )
        yield TaskScore(
            task=group,
            metric=metric,
            filter=chosen,
            value=value,
            standard_error=_error(row, metric, chosen),
            higher_is_better=better.get(metric, True),
            protocol=f"mean over {size} tasks as lm-eval weighs them; of the first: {protocol}",
            samples=samples if _is_mean(samples, len(samples), value) else (),
        )


def _metrics(row: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    for key, value in row.items():
        metric, comma, chosen = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, bool | int | float | np.number):
            yield metric, chosen, float(value)


def _error(row: Mapping[str, Any], metric: str, chosen: str) -> float | None:
    value = row.get(f"{metric}_stderr,{chosen}")
    return float(value) if isinstance(value, bool | int | float | np.number) and math.isfinite(value) else None


def _is_mean(scalars: tuple[float, ...], count: int, value: float) -> bool:
    return 0 < len(scalars) == count and math.isclose(sum(scalars) / count, value, rel_tol=1e-9, abs_tol=1e-12)
