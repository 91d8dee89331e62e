"""The rules of the house that a linter does not know: names, sizes, printing, logging, settings."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import every_file, product_files, relative

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
MAX_LINES = 400
MAY_PRINT = ("service/cli.py", "service/commands/", "worker/commands")
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS = {"log", "logger", "_log", "_logger"}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(_tree(path)) if isinstance(node, ast.Call))


def _is_print(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "print"


def _logs_a_computed_event(call: ast.Call) -> bool:
    function = call.func
    is_logging = (
        isinstance(function, ast.Attribute)
        and function.attr in LOG_METHODS
        and isinstance(function.value, ast.Name)
        and function.value.id in LOGGERS
    )
    return is_logging and bool(call.args) and not isinstance(call.args[0], ast.Constant)


def _settings_built_at_import(path: Path) -> Iterator[str]:
    statements = (node for node in _tree(path).body if isinstance(node, ast.Assign | ast.AnnAssign))
    functions = (node.value.func for node in statements if isinstance(node.value, ast.Call))
    return (f.id for f in functions if isinstance(f, ast.Name) and f.id.endswith("Settings"))


def test_files_and_folders_are_named_after_their_idea() -> None:
    offenders = [relative(path) for path in every_file() if {path.stem, path.parent.name} & FORBIDDEN_NAMES]

    assert offenders == []


def test_files_are_split_before_they_have_400_lines() -> None:
    lengths = {relative(path): path.read_text(encoding="utf-8").count("\n") for path in every_file()}

    assert {name: lines for name, lines in lengths.items() if lines >= MAX_LINES} == {}


def test_only_the_command_line_prints() -> None:
    silent = [path for path in product_files() if not relative(path).startswith(MAY_PRINT)]

    assert [f"{relative(path)}:{call.lineno}" for path in silent for call in _calls(path) if _is_print(call)] == []


def test_log_events_are_static_strings() -> None:
    offenders = [
        f"{relative(path)}:{call.lineno}"
        for path in product_files()
        for call in _calls(path)
        if _logs_a_computed_event(call)
    ]

    assert offenders == []


def test_no_settings_are_built_at_import() -> None:
    offenders = {relative(path): list(_settings_built_at_import(path)) for path in product_files()}

    assert {name: built for name, built in offenders.items() if built} == {}


def test_the_probe_for_computed_log_events_would_notice_one() -> None:
    call = ast.parse('log.info(f"{count} layers")', mode="eval").body

    assert isinstance(call, ast.Call)
    assert _logs_a_computed_event(call)
