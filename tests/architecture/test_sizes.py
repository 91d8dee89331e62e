"""Nobody reads a size in two units: one function tells all of them, and documents follow it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import ROOT, product_files, relative

UNIT = re.compile(r"(?<![A-Za-z_])(?:[kKMGT]i?B|(?:kilo|mega|giga|kibi|mebi|gibi)bytes?)(?![A-Za-z/])")
DECIMAL = re.compile(r"\d ?[kMGT]B\b(?!/s)")
"""In a document; a rate (GB/s) is no size."""
ONE_PLACE = "srr_core/recipe/byte_sizes.py"
TYPED = {
    ("service/commands/options.py", "All weight files together: 4GiB, 800MiB or 4GB."),
    ("service/web/watch_form.py", "is not a number of GiB."),
}
"""What a person may type, or the unit of a field that takes a number."""
TYPED_IN_PAGES = {"4GiB", "Largest model (GiB)"}
DOCUMENTS = ("README.md", "BENCHMARKS.md", "SECURITY.md", "srr_core/README.md", "docs")


def test_sizes_in_messages_come_from_the_one_place_that_words_them() -> None:
    found = [
        (relative(path), text)
        for path in product_files()
        if relative(path) != ONE_PLACE
        for text in _shown(ast.parse(path.read_text(encoding="utf-8")))
        if UNIT.search(text)
    ]

    unknown = [one for one in found if not any(one[0] == file and words in one[1] for file, words in TYPED)]
    assert unknown == []


def test_pages_leave_units_to_the_filter() -> None:
    found = {
        (path.name, match[0])
        for path in (ROOT / "service/web/templates").glob("*.html")
        for match in UNIT.finditer(_without(path.read_text(encoding="utf-8"), TYPED_IN_PAGES))
    }

    assert found == set()


def test_documents_have_binary_units_alone() -> None:
    found = [
        (path.relative_to(ROOT).as_posix(), line)
        for path in _documents()
        for line in path.read_text(encoding="utf-8").splitlines()
        if DECIMAL.search(line) and "--target-size" not in line
    ]

    assert found == []


def _shown(tree: ast.AST) -> Iterator[str]:
    """Yield every text of a module but for the docstrings, which stand alone."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def _without(text: str, words: set[str]) -> str:
    for word in words:
        text = text.replace(word, "")
    return text


def _documents() -> Iterator[Path]:
    for name in DOCUMENTS:
        path = ROOT / name
        yield from path.rglob("*.md") if path.is_dir() else [path]
