"""Words of strangers in Markdown: names from a model or from data start no markup, and tables keep their shape."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are safe already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Return a text of a stranger as one line that starts no markup, links nowhere and ends no cell."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")
    return " ".join(safe.replace("[", "(").replace("]", ")").split())


def code(text: str) -> str:
    """Return a text of a stranger as one line of code, in a table or outside of one.

    What would end the code is replaced, because nothing escapes it: a quote for a backtick, a broken bar for a bar.
    """
    return f"`{' '.join(text.replace('`', chr(39)).replace('|', '¦').split()) or ' '}`"
