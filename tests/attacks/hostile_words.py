"""Documents of ours filled with markup wherever a string may stand, and what a reader makes of them."""

import copy
from collections.abc import Collection, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, TypeVar

from markdown_it import MarkdownIt
from pydantic import BaseModel, ValidationError

MARK = "evil.example"
HOSTILE = (
    f"'\"`|--><evil onload=a>\\<evil>\n\n# {MARK}\n\n```\n<evil>[a](//{MARK}) ![a](//{MARK})</td></script></title>"
    f"<evil a=javascript:b>&lt;evil&gt;{{{{7*191}}}}"
)
"""Ends an attribute, a comment, a cell, a code span, a fence and a paragraph; begins an element, a heading, a link."""
LINKS = frozenset({"href", "src", "action", "formaction", "xlink:href", "data", "hx-get", "hx-post"})
Document = TypeVar("Document", bound=BaseModel)


def poisoned(document: Document, *, keep: Collection[str] = ()) -> tuple[Document, int]:
    """Return a document with HOSTILE in every string that its schema lets anything stand in, and how many these are.

    Args:
        keep: Fields of the document itself that name others of its fields.
    """
    dumped, kind, count = document.model_dump(mode="json"), type(document), 0
    for path in [path for path in _strings(dumped) if path[0] not in keep]:
        changed = copy.deepcopy(dumped)
        parent = changed
        for step in path[:-1]:
            parent = parent[step]
        parent[path[-1]] = HOSTILE
        try:
            kind.model_validate(changed)
        except ValidationError:
            continue  # a word of ours, or a name with a pattern
        dumped, count = changed, count + 1
    return kind.model_validate(dumped), count


def _strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, str):
        yield path
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _strings(inner, (*path, key))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        targets = [value or "" for name, value in attrs if name in LINKS]
        if tag == "evil" or any(name.startswith("on") for name in names):
            self.found.append(self.get_starttag_text() or tag)
        self.found += [
            target
            for target in targets
            if target.startswith((f"//{MARK}", "https://evil")) or "script:" in target.split("?")[0]
        ]


def markup_in(page: str) -> list[str]:
    """Return what a browser would run or follow of HOSTILE in a page."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    # A template that is rendered twice would compute.
    return reader.found + (["a template"] if str(7 * 191) in page else [])


def markup_in_markdown(text: str) -> list[str]:
    """Return what a browser would run, follow or take for a heading, of a Markdown page that allows HTML."""
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    headings = [f"heading {MARK}" for piece in page.split("<h1>")[1:] if piece.startswith(MARK)]
    return markup_in(page) + headings
