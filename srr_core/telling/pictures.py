"""What every picture of a report is: a drawing in SVG, words for those who do not see it, and its numbers as CSV."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDE, NARROW = (760, 340), (360, 320)
"""Two extents of one picture: scaled down to a phone, the letters of the wide one could not be read."""
STYLE = """
svg{font-family:system-ui,sans-serif;--ink:#1b1f24;--soft:#59636e;--line:#dfe3e8;--card:#ffffff;--ours:#0b6e6e;
--other:#a85b00;--third:#5b4b9a;--rest:#8a94a0}
@media (prefers-color-scheme:dark){svg{--ink:#e7eaee;--soft:#a0aab5;--line:#303740;--card:#1a1e23;--ours:#5cc6c2;
--other:#f0a860;--third:#b5a6f0;--rest:#76818d}}
text{fill:var(--soft);font-size:12px}.strong{fill:var(--ink);font-weight:600}
.line{stroke:var(--line)}
.ours{fill:var(--ours)}.other{fill:var(--other)}.third{fill:var(--third)}.rest{fill:var(--rest)}
.bar{stroke:var(--soft)}.source{stroke:var(--soft);stroke-dasharray:5 4}
.worst{fill:none;stroke:var(--ink);stroke-width:2}
"""
"""The classes of the drawings, for files that stand alone; the pages have the same names in their own style sheet."""

Number = int | float


@dataclass(frozen=True)
class Picture:
    """One picture, drawn."""

    name: str
    """Of its files, without an ending."""
    title: str
    """One sentence that stands above it."""
    alt: str
    """What is to be seen in it, in words."""
    width: int
    height: int
    drawing: str
    """The elements inside of `<svg>`; every text in it is escaped."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The numbers behind it."""

    def svg(self) -> str:
        """Return a file that stands alone, light and dark as the reader has it."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" aria-label={quoteattr(self.alt)}><style>{STYLE}</style>'
            f"{self.drawing}</svg>\n"
        )

    def inline(self, kind: str = "") -> str:
        """Return the element for a page that has the classes.

        Args:
            kind: A class of the element.
        """
        return (
            f'<svg class={quoteattr(f"picture {kind}".strip())} viewBox="0 0 {self.width} {self.height}" role="img" '
            f"aria-label={quoteattr(self.alt)}>{self.drawing}</svg>"
        )

    def csv(self) -> str:
        """Return the numbers, a header first; no cell is a formula for a spreadsheet."""
        return "".join(f"{','.join(map(_cell, row))}\r\n" for row in (self.header, *self.rows))


def text(x: Number, y: Number, words: str, *, anchor: str = "start", kind: str = "") -> str:
    """Return a line of words."""
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: Number, y1: Number, x2: Number, y2: Number, kind: str = "line") -> str:
    """Return a straight line."""
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def rectangle(
    x: Number, y: Number, width: Number, height: Number, *, kind: str = "", fill: str = "", hint: str = ""
) -> str:
    """Return a filled box, with words that are shown over it."""
    paint = (f' class="{kind}"' if kind else "") + (f' fill="{fill}"' if fill else "")
    title = f"<title>{escape(hint)}</title>" if hint else ""
    return f'<rect{paint} x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}">{title}</rect>'


def together(parts: Iterable[str]) -> str:
    """Return elements as one drawing."""
    return "".join(parts)


def _cell(value: str) -> str:
    safe = f"'{value}" if value[:1] in ("=", "+", "@", "\t") else value
    return f'"{safe.replace(chr(34), chr(34) * 2)}"' if any(sign in safe for sign in ',"\r\n') else safe


def shown(values: Sequence[float | None], digits: int = 4) -> tuple[str, ...]:
    """Return numbers for a table, empty where there is none."""
    return tuple("" if value is None else f"{value:.{digits}g}" for value in values)
