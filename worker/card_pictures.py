"""The verdict and the pictures of a card, and the files of them beside it."""

from pathlib import Path

from srr_core.recipe.byte_sizes import size_words
from srr_core.report import Report
from srr_core.telling.cautions import cautions
from srr_core.telling.frontier import FrontierRow, frontier
from srr_core.telling.gallery import pictures
from srr_core.telling.pictures import Picture
from srr_core.telling.verdict import verdict

FOLDER = "pictures"


def write_card(directory: Path, card: str, report: Report) -> None:
    """Write README.md and the pictures that it shows, as SVG with their numbers as CSV.

    Raises:
        OSError: the folder cannot be written.
    """
    (directory / "README.md").write_text(card, encoding="utf-8")
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    for picture in pictures(report):
        (folder / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")
        (folder / f"{picture.name}.csv").write_text(picture.csv(), encoding="utf-8", newline="")


def verdict_section(report: Report) -> str:
    """Return whether it was worth it, with the picture that shows it and the table of its numbers."""
    drawn = {picture.name: picture for picture in pictures(report)}
    parts = [f"## Was it worth it?\n\n**{verdict(report).sentence}**"]
    if "frontier" in drawn:
        parts.append(_shown(drawn["frontier"]))
    if report.baselines:
        parts.append(_table(report))
    found = cautions(report)
    if found:
        parts.append("Before you rely on it:\n\n" + "\n".join(f"* {_plain(words)}." for words in found))
    return "\n\n".join(parts)


def picture_sections(report: Report) -> tuple[str, ...]:
    """Return the other pictures, each with its title."""
    others = [picture for picture in pictures(report) if picture.name != "frontier"]
    return tuple(f"## {picture.title}\n\n{_shown(picture)}" for picture in others)


def _shown(picture: Picture) -> str:
    file = f"{FOLDER}/{picture.name}"
    return f"![{_alt(picture.alt)}]({file}.svg)\n\n[The numbers]({file}.csv)"


def _table(report: Report) -> str:
    lines = [
        "| | weight files | bits of the model | in its layers | divergence | perplexity |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_line(row) for row in frontier(report)),
    ]
    return "\n".join(lines)


def _line(row: FrontierRow) -> str:
    note = f" ({row.size_note})" if row.size_note else ""
    error = "" if row.divergence_error is None else f" ± {row.divergence_error:.2g}"
    cells = (
        f"`{row.name}`" if row.kind != "source" else "source",
        f"{size_words(row.size_bytes)}{note}",
        "" if row.bits_of_model is None else f"{row.bits_of_model:.2f}",
        "" if row.bits_per_weight is None else f"{row.bits_per_weight:.2f}",
        "" if row.divergence is None else f"{row.divergence:.3g}{error}",
        "" if row.perplexity is None else f"{row.perplexity:.3f}",
    )
    return f"| {' | '.join(cells)} |"


def _alt(words: str) -> str:
    return _plain(words).replace("]", ")").replace("[", "(")


def _plain(words: str) -> str:
    """Return words with names of a stranger as one line that cannot start markup of its own."""
    return " ".join(words.split()).replace("`", "'").replace("<", "&lt;").replace("[", "(").replace("]", ")")
