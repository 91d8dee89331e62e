"""The faults that are put into modules: each changes one place, and declarations are left alone."""

import pytest

from benchmarks.mutants.__main__ import chosen, score_table, survivors
from benchmarks.mutants.operators import Mutant, mutants
from benchmarks.mutants.targets import TARGETS
from benchmarks.mutants.trials import ROOT, Trial


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("a < b", ["(a <= b)"]),
        ("a == b", ["(a != b)"]),
        ("a is None", ["(a is not None)"]),
        ("x in y", ["(x not in y)"]),
        ("a + b", ["(a - b)"]),
        ("a * b", ["(a / b)"]),
        ("a and b", ["(a or b)"]),
        ("not a", ["(a)"]),
        ("3", ["4"]),
        ("0.5", ["1.5"]),
        ("True", ["False"]),
        ("f(x)", []),
        ("'text'", []),
        ('f"{a + 1} layers"', []),
        ("'a' + b", []),
    ],
)
def test_an_expression_gets_the_faults_of_its_kind(text: str, changed: list[str]) -> None:
    assert [fault.applied(f"value = {text}\n") for fault in mutants(f"value = {text}\n")] == [
        f"value = {fault}\n" for fault in changed
    ]


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("def f():\n    return g()\n", ["def f():\n    return None\n"]),
        ("def f():\n    g()\n", ["def f():\n    pass\n"]),
        ("def f():\n    raise E\n", ["def f():\n    pass\n"]),
        ("def f():\n    log.info('x', a=1)\n", []),
        ('"""Words."""\n', []),
        ("def f(a: Literal[1] = 2) -> Literal[3]:\n    ...\n", ["def f(a: Literal[1] = 3) -> Literal[3]:\n    ...\n"]),
        ("@d(1)\nclass C:\n    x: Field(2)\n", []),
        ("if TYPE_CHECKING:\n    x = 1\n", []),
    ],
)
def test_a_statement_gets_the_faults_of_its_kind(text: str, changed: list[str]) -> None:
    assert [fault.applied(text) for fault in mutants(text)] == changed


def test_a_fault_stands_in_the_right_place_of_a_line_with_letters_of_two_bytes() -> None:
    text = 'name = "‖x‖"; value = 1 < 2\n'

    fault = next(fault for fault in mutants(text) if fault.operator == "comparison")

    assert fault.applied(text) == 'name = "‖x‖"; value = (1 <= 2)\n'


@pytest.mark.parametrize("module", TARGETS)
def test_every_target_and_its_tests_exist(module: str) -> None:
    assert mutants((ROOT / module).read_text("utf-8"))
    assert [test for test in TARGETS[module] if not (ROOT / test).is_file()] == []


def test_a_sample_is_the_same_for_the_same_seed_whatever_else_is_tried() -> None:
    module = "srr_core/formats/packing.py"

    alone = chosen([module], sample=5, seed=3)
    among = chosen([*[*TARGETS][:3], module], sample=5, seed=3)

    assert len(alone[module]) == 5
    assert among[module] == alone[module]
    assert chosen([module], sample=5, seed=4) != alone


def test_the_score_counts_what_was_noticed_and_names_what_was_not() -> None:
    fault = Mutant(7, "constant", "1", "2", 0, 1)
    trials = [Trial("a.py", fault, outcome, 1.0) for outcome in ("killed", "timeout", "survived")]

    assert "| `a.py` | 9 | 3 | 2 | 67 % |" in score_table(trials, {"a.py": 9})
    assert survivors(trials) == ["a.py:7 constant: 1 -> 2"]
