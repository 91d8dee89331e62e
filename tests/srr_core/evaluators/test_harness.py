"""Tasks of lm-eval on a loaded model: numbers of the harness itself, offline, and refusals before anything is run."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from srr_core.errors import EvaluationError, StopRequested, StorageError
from srr_core.evaluators.dataset_folder import DatasetFolder
from srr_core.evaluators.harness.package import BUNDLED_TASKS, harness_module
from srr_core.evaluators.harness.resolve import resolve_tasks
from srr_core.evaluators.harness.run import HarnessOptions, TaskScore, run_tasks, unweighted_mean
from srr_core.recipe.task_suites import SUITES
from tests.pico import build_checkpoint

QUICK = SUITES["quick"].names


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(
        tmp_path_factory.mktemp("harness") / "model", dtype=torch.float32, max_position_embeddings=128
    )


@pytest.fixture
def data(tmp_path: Path) -> DatasetFolder:
    return DatasetFolder(tmp_path / "datasets", tmp_path / "cache")


def _model(directory: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model.eval()


def _run(directory: Path, names: tuple[str, ...], data: DatasetFolder, **changes: Any) -> tuple[TaskScore, ...]:
    task_folder = changes.pop("task_folder", None)
    after_batch = changes.pop("after_batch", None)
    options = HarnessOptions(**{"batch_size": 16, "max_length": 128, "limit": 12, **changes})
    tasks = resolve_tasks(names, task_folder=task_folder)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    return run_tasks(_model(directory), tokenizer, tasks, data, options, after_batch=after_batch)


def _simple_evaluate(directory: Path, names: tuple[str, ...], tmp_path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a foreign library
        tasks = harness_module("lm_eval.tasks")
        language_model = harness_module("lm_eval.models.huggingface").HFLM(
            pretrained=_model(directory),
            tokenizer=AutoTokenizer.from_pretrained(directory),
            batch_size=16,
            max_length=128,
            add_bos_token=False,
        )
        result: dict[str, Any] = harness_module("lm_eval").simple_evaluate(
            language_model,
            tasks=list(names),
            limit=12,
            task_manager=tasks.TaskManager(include_path=str(tmp_path), include_defaults=False),
        )
    return result


def _stock_copy(folder: Path) -> None:
    # The same tasks as lm-eval reads them by itself, with absolute data files.
    for file in BUNDLED_TASKS.glob("*.yaml"):
        text = file.read_text()
        for name in ("agreement.jsonl", "completion.jsonl", "arithmetic.jsonl", "arithmetic_examples.jsonl"):
            text = text.replace(f": {name}", f": {BUNDLED_TASKS / name}")
        (folder / file.name).write_text(text)


def test_scores_equal_those_of_simple_evaluate(directory: Path, data: DatasetFolder, tmp_path: Path) -> None:
    _stock_copy(tmp_path)
    found = {(score.task, score.metric): score for score in _run(directory, QUICK, data)}
    expected = _simple_evaluate(directory, QUICK, tmp_path)["results"]
    for task in SUITES["quick"].tasks:
        score = found[task.name, task.metric]
        assert score.value == expected[task.name][f"{task.metric},none"]
        assert score.standard_error == pytest.approx(expected[task.name][f"{task.metric}_stderr,none"])


def test_the_protocol_names_versions_shots_questions_and_bos(directory: Path, data: DatasetFolder) -> None:
    (score,) = _run(directory, ("srr_arithmetic",), data, add_bos_token=True)
    assert score.protocol == (
        "lm-eval 0.4.13, task version 1.0, 4 examples in the prompt, 12 questions, the first of 100; windows of at "
        "most 128 tokens, add_bos_token=True, batches of 16, seeds 0/1234/1234/1234"
    )


def test_questions_are_kept_so_that_models_can_be_paired(directory: Path, data: DatasetFolder) -> None:
    (score,) = _run(directory, ("srr_agreement",), data)
    assert len(score.samples) == 12
    assert sum(score.samples) / 12 == score.value


def test_a_run_can_be_stopped_between_batches(directory: Path, data: DatasetFolder) -> None:
    def stop() -> None:
        raise StopRequested("stopped")

    with pytest.raises(StopRequested):
        _run(directory, ("srr_agreement",), data, after_batch=stop)


@pytest.mark.slow  # indexes all 14 000 tasks of the harness
@pytest.mark.parametrize(("name", "near"), [("srr_agrement", "srr_agreement"), ("hella_swag", "hellaswag")])
def test_an_unknown_task_is_refused_with_near_names(name: str, near: str) -> None:
    with pytest.raises(EvaluationError, match=f"there is no task '{name}'; near it: .*{near}"):
        resolve_tasks((name,))


def test_a_suite_of_the_literature_is_opened_down_to_its_subjects() -> None:
    tasks = resolve_tasks(SUITES["srr-5"].names)
    assert len(tasks.members["mmlu"]) == 57
    assert len(tasks.members["leaderboard_bbh"]) == 24
    assert tasks.datasets == ("Rowan/hellaswag", "SaylorTwift/bbh", "allenai/winogrande", "aps/super_glue", "cais/mmlu")


@pytest.mark.slow  # the same
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("humaneval", "runs what the model writes as code"),
        ("squadv2", "program of its own"),
        ("squad_completion", "program of its own"),
    ],
)
def test_a_task_that_runs_code_is_refused(name: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        resolve_tasks((name,))


def _task(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"prefix": "a", "choices": ["b", "c"], "label": 0}\n' * 3)
    document = {
        "task": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prefix}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        **changes,
    }
    (folder / "mine.yaml").write_text(json.dumps(document))
    return folder


def test_a_folder_of_own_tasks_is_read(directory: Path, data: DatasetFolder, tmp_path: Path) -> None:
    (score,) = _run(directory, ("mine",), data, task_folder=_task(tmp_path / "tasks"))
    assert (score.task, score.metric, len(score.samples)) == ("mine", "acc", 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric_list": [{"metric": "bertscore"}]}, "downloads the code of its metric 'bertscore'"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "downloads the code of its metric"),
        ({"unsafe_code": True}, "runs what the model writes"),
        ({"dataset_kwargs": {"trust_remote_code": True}}, "needs code from the repository"),
        ({"dataset_path": "loader.py"}, "needs code from the repository"),
        ({"dataset_path": None}, "program of its own"),
        ({"dataset_path": "org/rows"}, "not in .*; fetch it with `srr evaluate --prefetch`"),
        ({"dataset_kwargs": {"data_files": {"test": "https://example.org/rows.jsonl"}}}, "must lie on this machine"),
        ({"dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}}, "not beside mine.yaml"),
        ({"test_split": "validation"}, "has no split 'validation', which mine needs to be scored on; it has: test"),
        ({"fewshot_split": "train"}, "has no split 'train', which mine needs for its examples"),
        ({"dataset_name": "other", "dataset_path": "org/rows"}, "fetch it"),
    ],
)
def test_a_task_that_cannot_be_run_is_refused(
    changes: dict[str, Any], said: str, directory: Path, data: DatasetFolder, tmp_path: Path
) -> None:
    folder = _task(tmp_path / "tasks", **changes)
    with pytest.raises(EvaluationError, match=said):
        _run(directory, ("mine",), data, task_folder=folder)


def test_a_function_of_a_foreign_folder_is_never_called(tmp_path: Path) -> None:
    folder = _task(tmp_path / "tasks")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef run(doc): return doc\n")
    (folder / "evil.yaml").write_text("task: evil\nmetric_list:\n  - metric: !function evil.run\n")
    with pytest.raises(EvaluationError, match="calls functions"):
        resolve_tasks(("mine",), task_folder=folder)
    assert not (tmp_path / "ran").exists()


def _prefetched(data: DatasetFolder, write: Callable[[Path], object]) -> None:
    folder = data.root / "org--rows"
    folder.mkdir(parents=True)
    write(folder)
    lock = {"datasets": {"org/rows": {"revision": "0" * 40, "path": "org--rows"}}}
    (data.root / "datasets.json").write_text(json.dumps(lock))


def test_a_prefetched_dataset_is_read_without_network(directory: Path, data: DatasetFolder, tmp_path: Path) -> None:
    row = '{"prefix": "a", "choices": ["b", "c"], "label": 0}\n'
    _prefetched(data, lambda folder: (folder / "test.jsonl").write_text(row * 4))
    folder = _task(tmp_path / "tasks", dataset_path="org/rows", dataset_kwargs=None)
    (score,) = _run(directory, ("mine",), data, task_folder=folder)
    assert len(score.samples) == 4
    assert data.revision("org/rows") == "0" * 40


def test_a_dataset_made_by_a_script_is_refused(directory: Path, data: DatasetFolder, tmp_path: Path) -> None:
    _prefetched(data, lambda folder: (folder / "org--rows.py").write_text("raise SystemExit"))
    folder = _task(tmp_path / "tasks", dataset_path="org/rows", dataset_kwargs=None)
    with pytest.raises(EvaluationError, match="code of its own, which is never run"):
        _run(directory, ("mine",), data, task_folder=folder)


def _pinned(data: DatasetFolder, dataset: str, configs: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    folder = data.root / dataset.replace("/", "--")
    folder.mkdir(parents=True)
    listed = []
    for config, splits in configs.items():
        for split, rows in splits.items():
            (folder / f"{config}-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = [{"split": split, "path": f"{config}-{split}.jsonl"} for split in splits]
        listed.append({"config_name": config, "data_files": files})
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': listed})}\n---\n")
    lock = {"datasets": {dataset: {"revision": "0" * 40, "path": folder.name}}}
    (data.root / "datasets.json").write_text(json.dumps(lock))


def test_a_task_of_the_harness_reads_a_prefetched_folder(directory: Path, data: DatasetFolder) -> None:
    rows = [{"question": f"What is {i} and one?", "answer": f"One more. #### {i + 1}"} for i in range(6)]
    _pinned(data, "openai/gsm8k", {"main": {"train": rows, "test": rows[:3]}})
    scores = _run(directory, SUITES["gsm8k"].names, data, num_fewshot=2, max_length=512)
    assert [(score.metric, score.filter) for score in scores] == [
        ("exact_match", "strict-match"),
        ("exact_match", "flexible-extract"),
    ]
    assert "task version 3.0, 2 examples in the prompt, 3 questions;" in scores[0].protocol


@pytest.mark.slow  # opens 24 datasets twice
def test_bbh_is_the_plain_mean_of_its_24_tasks(directory: Path, data: DatasetFolder) -> None:
    names = resolve_tasks(("leaderboard_bbh",)).leaves.values()
    rows = [{"input": "Is it so?", "target": str(leaf.config["doc_to_choice"][0])} for leaf in names]
    sizes = range(1, 1 + len(rows))
    configs = {
        str(leaf.dataset_name): {"test": [row] * size} for leaf, row, size in zip(names, rows, sizes, strict=True)
    }
    _pinned(data, "SaylorTwift/bbh", configs)
    one_by_one = _run(directory, tuple(leaf.name for leaf in names), data, num_fewshot=0, limit=None)
    (group,) = _run(directory, ("leaderboard_bbh",), data, num_fewshot=0, limit=None)
    assert group.value == pytest.approx(sum(score.value for score in one_by_one) / 24)
    assert 0 < group.value < 1


def _group(folder: Path, extra: str) -> Path:
    _task(folder)
    first = json.loads((folder / "mine.yaml").read_text())
    (folder / "more.jsonl").write_text('{"prefix": "a", "choices": ["b", "c"], "label": 1}\n' * 9)
    other = {**first, "task": "yours", "dataset_kwargs": {"data_files": {"test": "more.jsonl"}}}
    (folder / "yours.yaml").write_text(json.dumps(other))
    (folder / "both.yaml").write_text(f"group: both\ntask: [mine, yours]\n{extra}")
    return folder


def test_a_group_is_weighed_as_the_harness_does(directory: Path, data: DatasetFolder, tmp_path: Path) -> None:
    extra = "aggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n"
    (score,) = _run(directory, ("both",), data, task_folder=_group(tmp_path / "tasks", extra))
    # Labels differ and every question of a task is the same: one task is all right, the other all wrong.
    assert score.value in (3 / 12, 9 / 12)


def test_a_group_without_a_mean_of_its_own_gets_the_plain_one(
    directory: Path, data: DatasetFolder, tmp_path: Path
) -> None:
    (score,) = _run(directory, ("both",), data, task_folder=_group(tmp_path / "tasks", ""))
    assert score.value == 0.5


def test_a_damaged_list_of_datasets_is_named(data: DatasetFolder) -> None:
    data.root.mkdir()
    (data.root / "datasets.json").write_text('{"datasets": {"a": {"revision": "b", "path": "../../etc"}}}')
    with pytest.raises(EvaluationError, match="damaged; remove it and prefetch again"):
        data.lock()


def test_a_cache_that_cannot_be_written_is_one_line(directory: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file")
    with pytest.raises(StorageError, match=r"^cache folder .* cannot be written \(.*\); name another$"):
        _run(directory, QUICK, DatasetFolder(tmp_path, blocked))


def test_a_missing_harness_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="lm_eval")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(EvaluationError, match=r"lm_eval is not installed: pip install 'srr-compression\[harness\]'"):
        resolve_tasks(QUICK)


def test_an_unweighted_mean_counts_every_task_the_same() -> None:
    scores = [TaskScore(str(i), "acc", "none", i / 4, 0.1, True, "p") for i in range(4)]
    found = unweighted_mean(scores, "group")
    assert (found.task, found.value) == ("group", 0.375)
    assert found.standard_error == pytest.approx(0.05)
