"""A document as one page that stands alone: no script, no other file, light and dark as the reader has it."""

from collections.abc import Iterator, Sequence
from html import escape

from srr_core.telling.document import Block, Bullets, Document, Grid, Words
from srr_core.telling.pictures import STYLE

_PAGE = """
:root{color-scheme:light dark;--page:#fbfcfd;--text:#1b1f24;--rule:#dfe3e8}
@media (prefers-color-scheme:dark){:root{--page:#14171b;--text:#e7eaee;--rule:#303740}}
body{background:var(--page);color:var(--text);font-family:system-ui,sans-serif;line-height:1.5;margin:0 auto;
max-width:60rem;padding:1rem}
h1,h2{line-height:1.2;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse}
th,td{border-bottom:1px solid var(--rule);padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top}
td{font-variant-numeric:tabular-nums}
figure{margin:1rem 0}
svg{height:auto;max-width:100%}
"""


def to_html(document: Document) -> str:
    """Return a document as HTML. The same document gives the same bytes."""
    title = escape(document.title)
    body = [f"<h1>{title}</h1>", *_elements(document.blocks)]
    for section in document.sections:
        body += ["<section>", f"<h2>{escape(section.title)}</h2>", *_elements(section.blocks), "</section>"]
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_PAGE}{STYLE}</style>\n</head>\n<body>\n<main>\n"
    )
    return head + "\n".join(body) + "\n</main>\n</body>\n</html>\n"


def _elements(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Words):
            text = escape(block.text)
            yield f"<p><strong>{text}</strong></p>" if block.is_strong else f"<p>{text}</p>"
        elif isinstance(block, Bullets):
            yield "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in block.items) + "</ul>"
        elif isinstance(block, Grid):
            yield f'<div class="scroll" tabindex="0" role="region" aria-label="Table">{_table(block)}</div>'
        else:
            caption = escape(block.picture.title)
            yield f"<figure><figcaption>{caption}</figcaption>{block.picture.inline()}</figure>"


def _table(grid: Grid) -> str:
    head = ""
    if any(grid.header):
        head = "<thead><tr>" + "".join(f'<th scope="col">{escape(word)}</th>' for word in grid.header) + "</tr></thead>"
    rows = "".join(f"<tr>{_row(row)}</tr>" for row in grid.rows)
    return f"<table>{head}<tbody>{rows}</tbody></table>"


def _row(row: tuple[str, ...]) -> str:
    return f'<th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(word)}</td>" for word in row[1:])
