"""Jobs of different owners share the hubs of a worker: only one module decides what each may see of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import ROOT, relative

DECIDES = "worker/shared_hubs.py"
ADAPTERS = frozenset({"worker/hub.py", "worker/folder_hub.py", "worker/dataset_hub.py"})
"""The hubs themselves."""
COMMANDS = frozenset(
    {"worker/commands.py", "worker/model_commands.py", "worker/evaluated_model.py", "worker/evaluate_command.py"}
)
"""Of whoever sits at the machine, with a token of their own."""
GUARDED = frozenset({"resolve", "destination", "fetch", "name_of"})
"""Methods of hubs that show something, or somebody's right to write."""


def _unguarded(text: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(text)):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in GUARDED
        if is_call and node.args:  # `Path.resolve` has none
            yield node.lineno


def _uses(text: str, attribute: str) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == attribute for node in ast.walk(ast.parse(text)))


def _jobs_modules() -> list[Path]:
    excused = {DECIDES} | ADAPTERS | COMMANDS
    return [path for path in sorted((ROOT / "worker").glob("*.py")) if relative(path) not in excused]


def test_only_one_module_asks_hubs_what_a_job_may_see() -> None:
    found = {relative(path): list(_unguarded(path.read_text(encoding="utf-8"))) for path in _jobs_modules()}

    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_kind_of_work_asks_that_module() -> None:
    carrying = [path for path in _jobs_modules() if "def " in (text := path.read_text()) and "-> Finished:" in text]

    assert len(carrying) >= 3
    assert [relative(path) for path in carrying if "from worker.shared_hubs import" not in path.read_text()] == []


def test_the_excused_modules_are_there_and_run_no_jobs() -> None:
    assert {name for name in ADAPTERS | COMMANDS if not (ROOT / name).is_file()} == set()
    assert [name for name in COMMANDS if _uses((ROOT / name).read_text(), "tenant")] == []


def test_the_probe_would_notice_a_question() -> None:
    assert list(_unguarded("hub.resolve(source.model_id, 'main', token=token)")) == [1]
    assert list(_unguarded("path.resolve()")) == []
