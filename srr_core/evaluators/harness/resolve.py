"""From names to tasks: groups opened, unknown names refused with near ones, and nothing that brings code."""

import difflib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from srr_core.errors import EvaluationError
from srr_core.evaluators.harness.package import BUNDLED_TASKS, harness_module, quiet
from srr_core.recipe.task_suites import SUITES

FILE_BUILDERS = frozenset({"json", "csv", "parquet", "text", "arrow"})
"""Datasets that are files of this machine, not repositories."""
_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "hellaswag": ("hellaswag",),
    "winogrande": ("winogrande",),
    "boolq": ("super_glue/boolq",),
    "mmlu": ("mmlu/default",),
    "leaderboard_bbh": ("leaderboard/bbh_mc",),
    "arc_challenge": ("arc",),
    "commonsense_qa": ("commonsense_qa",),
    "gsm8k": ("gsm8k",),
}
"""Where the tasks of our suites lie in lm-eval, because indexing all 14 000 takes twenty seconds."""


@dataclass(frozen=True)
class LeafTask:
    """One task with data of its own."""

    name: str
    file: Path
    """Its YAML file."""
    config: Mapping[str, Any]
    """What the file says, includes merged, functions left as names."""

    @property
    def dataset(self) -> str:
        """A repository of datasets, or one of `FILE_BUILDERS`."""
        return str(self.config["dataset_path"])

    @property
    def dataset_name(self) -> str | None:
        """The configuration of the dataset."""
        value = self.config.get("dataset_name")
        return None if value is None else str(value)

    @property
    def is_local(self) -> bool:
        """Whether its data are files named in the task itself."""
        return self.dataset in FILE_BUILDERS

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments for loading the dataset; files are named from the task's own folder.

        Raises:
            EvaluationError: a data file is an address, or not there.
        """
        given = self.config.get("dataset_kwargs") or {}
        options = {key: value for key, value in given.items() if key not in {"trust_remote_code", "revision"}}
        if "data_files" in options:
            options["data_files"] = self._files(options["data_files"])
        return options

    def data_digest(self) -> str:
        """Return a SHA-256 of the data files named in the task; of nothing, where it has none."""
        digest = hashlib.sha256()
        for file in _flat(self.options.get("data_files")):
            digest.update(Path(file).read_bytes())
        return digest.hexdigest()

    @property
    def needed_splits(self) -> dict[str, str]:
        """Which splits are read, and what for."""
        evaluated = self.config.get("test_split") or self.config.get("validation_split")
        wanted = {str(evaluated): "to be scored on"} if evaluated else {}
        shown = self.config.get("fewshot_split") or self.config.get("training_split")
        return {**({str(shown): "for its examples"} if shown else {}), **wanted}

    def _files(self, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {split: self._files(files) for split, files in given.items()}
        if isinstance(given, list):
            return [self._files(file) for file in given]
        if "://" in str(given):
            raise EvaluationError(f"task {self.name} reads {given}; data files must lie on this machine")
        file = (self.file.parent / str(given)).resolve()
        if not file.is_file():
            raise EvaluationError(f"task {self.name} reads {given}, which is not beside {self.file.name}")
        return str(file)


@dataclass(frozen=True)
class ResolvedTasks:
    """What was asked for, opened down to tasks with data."""

    asked: tuple[str, ...]
    leaves: Mapping[str, LeafTask]
    members: Mapping[str, tuple[str, ...]]
    """For each name asked for, the tasks it stands for; a task stands for itself."""
    groups: Mapping[str, Path]
    """The YAML files of groups that were opened on the way."""
    datasets: tuple[str, ...] = field(init=False)
    """Repositories of datasets that must be there."""

    def __post_init__(self) -> None:
        wanted = sorted({leaf.dataset for leaf in self.leaves.values() if not leaf.is_local})
        object.__setattr__(self, "datasets", tuple(wanted))


def resolve_tasks(names: Sequence[str], *, task_folder: Path | None = None) -> ResolvedTasks:
    """Return the tasks behind names of tasks, groups or tags.

    Args:
        task_folder: A folder of further YAML tasks. Its templates are run as Jinja runs them, so take a folder only
            from whom you would take a script.
    Raises:
        EvaluationError: a name is unknown, a task downloads or runs code, or lm-eval is not installed.
    """
    if not names:
        raise EvaluationError("no task is named; name some, or a suite: " + ", ".join(SUITES))
    if task_folder is not None:
        _refuse_functions(task_folder)
    installed = Path(harness_module("lm_eval.tasks").__file__).parent
    own = [BUNDLED_TASKS, *([task_folder] if task_folder is not None else [])]
    folders = [*(installed / part for name in names for part in _FOLDERS.get(name, ())), *own]
    index = _index(folders)
    if any(name not in index for name in names):
        index = {**_everything(installed), **_index(own)}
    unknown = [name for name in names if name not in index]
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*SUITES, *index], n=5, cutoff=0.6)
        hint = f"; near it: {', '.join(near)}" if near else "; suites are " + ", ".join(SUITES)
        raise EvaluationError(f"there is no task {unknown[0]!r}{hint}")
    leaves: dict[str, LeafTask] = {}
    groups: dict[str, Path] = {}
    members: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(names):
        found = {leaf.name: leaf for leaf in _open(name, index, groups)}
        for leaf in found.values():
            _refuse_code(leaf)
        leaves |= found
        members[name] = tuple(found)
    return ResolvedTasks(tuple(dict.fromkeys(names)), leaves, members, groups)


@functools.lru_cache(maxsize=1)
def _everything(installed: Path) -> Mapping[str, Any]:
    # Twenty seconds, so once in a process.
    return _index([installed])


def _flat(files: Any) -> Iterator[str]:
    if isinstance(files, str):
        yield files
    elif files is not None:
        for file in files.values() if isinstance(files, Mapping) else files:
            yield from _flat(file)


def _index(folders: Sequence[Path]) -> Mapping[str, Any]:
    with quiet():
        manager = harness_module("lm_eval.tasks").TaskManager(
            include_path=[str(folder) for folder in dict.fromkeys(folders)], include_defaults=False
        )
    index: Mapping[str, Any] = manager.task_index
    return index


def _open(name: str, index: Mapping[str, Any], groups: dict[str, Path]) -> Iterator[LeafTask]:
    entry = index.get(name)
    if entry is None:
        raise EvaluationError(f"a group names the task {name!r}, which does not exist")
    kind = entry.kind.name
    if kind == "TAG":
        for member in sorted(entry.tags):
            yield from _open(member, index, groups)
    elif kind == "GROUP":
        groups[name] = Path(entry.yaml_path)
        for member in entry.cfg.get("task") or ():
            yield from _open(_member_name(name, member), index, groups)
    elif kind == "PY_TASK":
        raise EvaluationError(f"task {name} is a program of its own and brings its data by itself; it cannot be run")
    else:
        yield LeafTask(name, Path(entry.yaml_path), entry.cfg)


def _member_name(group: str, member: Any) -> str:
    if isinstance(member, str):
        return member
    changed = sorted(set(member) & {"dataset_path", "dataset_name", "dataset_kwargs"})
    found = member.get("task") or member.get("group")
    if not isinstance(found, str) or changed:
        raise EvaluationError(f"group {group} defines tasks inside itself; name its tasks one by one")
    return found


def _refuse_code(leaf: LeafTask) -> None:
    config = leaf.config
    options = config.get("dataset_kwargs") or {}
    if config.get("unsafe_code"):
        raise EvaluationError(f"task {leaf.name} runs what the model writes as code, which is refused here")
    if not config.get("dataset_path") or config.get("custom_dataset"):
        raise EvaluationError(f"task {leaf.name} makes its data by a program of its own; it cannot be run")
    if options.get("trust_remote_code") or str(config["dataset_path"]).endswith(".py"):
        raise EvaluationError(f"task {leaf.name} needs code from the repository of its dataset, which is never run")
    if config.get("process_results"):
        return  # the metrics are names only; the task computes them
    known = harness_module("lm_eval.api.metrics") and harness_module("lm_eval.api.registry").metric_registry
    for row in config.get("metric_list") or ():
        metric = row.get("metric")
        is_function = "/" in str(metric)  # a function of lm-eval's own package, by its path
        if row.get("hf_evaluate") or not (is_function or metric in known):
            raise EvaluationError(f"task {leaf.name} downloads the code of its metric {metric!r}, which is refused")


def _refuse_functions(folder: Path) -> None:
    if not folder.is_dir():
        raise EvaluationError(f"{folder} is no folder of tasks")
    for file in sorted(folder.rglob("*.yaml")):
        try:
            document = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as cause:
            raise EvaluationError(f"task file {file} cannot be read: {str(cause).splitlines()[0]}") from cause
        if document is not None and _has_function(document):
            raise EvaluationError(f"task file {file} calls functions (!function), which only lm-eval's own may")


def _has_function(node: yaml.Node) -> bool:
    if node.tag == "!function":
        return True
    if isinstance(node, yaml.MappingNode):
        return any(_has_function(part) for pair in node.value for part in pair)
    return isinstance(node, yaml.SequenceNode) and any(_has_function(part) for part in node.value)
