"""The faults: what a slip of the hand or of thought makes of one place in a program."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_LOGGERS = frozenset({"debug", "info", "warning", "error", "exception", "say"})
"""Calls that tell somebody something; no test should hold their words."""


@dataclass(frozen=True)
class Mutant:
    """One fault in one module."""

    line: int
    operator: str
    before: str
    after: str
    start: int
    """Bytes of the module's text that are replaced, from `start` to `stop`."""
    stop: int

    def applied(self, text: str) -> str:
        """Return the module with the fault."""
        raw = text.encode()
        return (raw[: self.start] + self.after.encode() + raw[self.stop :]).decode()


def mutants(text: str) -> list[Mutant]:
    """Return every fault of a module, in the order of its lines; those that would not be Python are left out."""
    tree = ast.parse(text)
    offsets = [0]
    for line in text.encode().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    skipped = _declarations(tree)
    found = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        for operator, changed in _faults(node):
            place = cast("ast.expr", node)  # what has faults has a place; a statement has the same four numbers
            start = offsets[place.lineno - 1] + place.col_offset
            stop = offsets[(place.end_lineno or place.lineno) - 1] + (place.end_col_offset or 0)
            before = text.encode()[start:stop].decode()
            mutant = Mutant(place.lineno, operator, before, changed, start, stop)
            if changed != before and _is_python(mutant.applied(text)):
                found.append(mutant)
    return sorted(set(found), key=lambda mutant: (mutant.start, mutant.stop, mutant.operator, mutant.after))


def _faults(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
        yield "comparison", _written(ast.Compare(node.left, [_COMPARISONS[type(node.ops[0])]()], node.comparators))
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC and not _is_text(node):
        yield "arithmetic", _written(ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right))
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", _written(ast.BoolOp(other, node.values))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "sign", _written(node.operand)
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        # The whole statement would be rewritten; its test alone says the same.
        return
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "return", "return None"
    elif isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Delete) and not _is_talk(node):
        yield "statement", "pass"


def _constants(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield "constant", str(not value)
    elif isinstance(value, int):
        yield "constant", str(value + 1)
    elif isinstance(value, float):
        yield "constant", repr(value + 1.0)


def _declarations(tree: ast.Module) -> set[ast.AST]:
    """Return what declares and does not do: annotations, decorators, docstrings, texts."""
    skipped: set[ast.AST] = set()

    def skip(node: ast.AST | None) -> None:
        skipped.update(ast.walk(node) if node is not None else ())

    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            skip(node.returns)
            for decorator in node.decorator_list:
                skip(decorator)
        elif isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                skip(decorator)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            skip(node.annotation)
        elif (
            isinstance(node, ast.JoinedStr)
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
            or (isinstance(node, ast.Expr | ast.Raise) and _is_talk(node))
        ):
            skip(node)
    return skipped


def _is_talk(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _LOGGERS


def _is_text(node: ast.BinOp) -> bool:
    return any(isinstance(side, ast.JoinedStr) or _is_string(side) for side in (node.left, node.right))


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _written(node: ast.expr) -> str:
    # In parentheses, because what stood there may have bound more tightly.
    return f"({ast.unparse(ast.fix_missing_locations(node))})"


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True
