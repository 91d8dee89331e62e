"""What a report says, as a document: sections of blocks that every medium writes in its own way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from srr_core.telling.markdown import cell, table
from srr_core.telling.pictures import Picture


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    is_strong: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of sentences or of facts."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table; the first column names its row. A header of empty words is a table of facts."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Drawn:
    """A picture, which a text without room for it leaves out."""

    picture: Picture


Block = Words | Bullets | Grid | Drawn


@dataclass(frozen=True)
class Section:
    """Blocks under a heading; the first one of a document has the heading of the whole."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A report in words. No text in it is escaped: names of strangers are made safe where they are written."""

    title: str
    blocks: tuple[Block, ...]
    sections: tuple[Section, ...]


def filled(sections: Sequence[Section | None]) -> tuple[Section, ...]:
    """Return the sections that have something to say."""
    return tuple(section for section in sections if section is not None and section.blocks)


def to_markdown(document: Document) -> str:
    """Return a document as Markdown, without its pictures."""
    parts = [f"# {cell(document.title)}", *_texts(document.blocks)]
    for section in document.sections:
        parts += [f"## {cell(section.title)}", *_texts(section.blocks)]
    return "\n\n".join(parts) + "\n"


def _texts(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Words):
            yield f"**{cell(block.text)}**" if block.is_strong else cell(block.text)
        elif isinstance(block, Bullets):
            yield "\n".join(f"- {cell(item)}" for item in block.items)
        elif isinstance(block, Grid):
            header = [cell(word) for word in block.header]
            yield table(header, [[cell(word) for word in row] for row in block.rows])
