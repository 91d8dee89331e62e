"""The card of an export: what it is, how it is loaded, what its user must know, and whose terms apply."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from srr_core.formats.artifact import Artifact
from srr_core.report import Report, read_report

CARD_FILE = "README.md"
REPORT_FILE = "report.json"
_FENCE = "---"
_MARKS = re.compile(r"[^\w ./:@%+-]")
"""What Markdown or HTML may take for more than a word."""
_KEPT = (
    "license",
    "license_name",
    "license_link",
    "language",
    "pipeline_tag",
    "tags",
    "base_model",
    "base_model_relation",
)
"""Entries of the artifact's card that are true of every form of it."""


@dataclass(frozen=True)
class ExportCard:
    """What one exporter says of one folder it wrote."""

    form: str
    """What the folder holds, as the end of "NAME as ..."."""
    loading: str
    """How it is loaded, in Markdown."""
    library: str
    folder: str = "."
    base_model: str | None = None
    """The repository an adapter belongs to; the source of the artifact by default."""
    relation: str = "quantized"


def write_card(artifact: Artifact, destination: Path, card: ExportCard, notes: Sequence[str]) -> None:
    """Write README.md into a folder of an export.

    Args:
        destination: The export's top folder.
        notes: What the exporter returned, one sentence each.
    """
    report = _report(artifact)
    name = _plain(report.source.id if report is not None else artifact.directory.name)
    sections = [
        f"# {name} as {card.form}",
        "Made by `srr export` from a compressed model whose linear layers are W ≈ Q + L·R.",
        f"## How to load\n\n{card.loading}",
        "## Know before use\n\n" + "\n".join(f"* {note}" for note in (*notes, _terms(artifact))),
        *([_results(report)] if report is not None else []),
    ]
    text = f"{_FENCE}\n{_metadata(artifact, card, report)}{_FENCE}\n\n" + "\n\n".join(sections) + "\n"
    (destination / card.folder / CARD_FILE).write_text(text, encoding="utf-8")


def read_metadata(file: Path) -> dict[str, Any]:
    """Return the metadata block of a card; empty where there is none, or none that can be read."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    head, fence, rest = text.partition(_FENCE)
    block, end, _ = rest.partition(f"\n{_FENCE}")
    if head.strip() or not fence or not end:
        return {}
    try:
        found = yaml.safe_load(block)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _metadata(artifact: Artifact, card: ExportCard, report: Report | None) -> str:
    before = read_metadata(artifact.directory / CARD_FILE)
    entries = {key: before[key] for key in _KEPT if key in before}
    entries.setdefault("tags", ["srr", "quantized"])
    if report is not None:
        entries.setdefault("base_model", report.source.id)
    if card.base_model is not None:
        entries["base_model"] = card.base_model
    entries |= {"base_model_relation": card.relation, "library_name": card.library}
    return str(yaml.safe_dump(entries, allow_unicode=True, sort_keys=True))


def _plain(text: str) -> str:
    """Return words of a report, which a stranger may have written, as words and nothing else of Markdown or HTML."""
    return _MARKS.sub("?", " ".join(text.split()))


def _report(artifact: Artifact) -> Report | None:
    try:
        return read_report(json.loads((artifact.directory / REPORT_FILE).read_bytes()))
    except (OSError, ValueError):
        return None


def _terms(artifact: Artifact) -> str:
    stated: Mapping[str, Any] = read_metadata(artifact.directory / CARD_FILE)
    if "license" in stated:
        return "The licence is that of the source, and its terms apply."
    return "No licence of the source is known here; ask its owner before using or sharing this model."


def _results(report: Report) -> str:
    rows = "\n".join(
        f"| {_plain(row.metric)} | {'' if row.source is None else row.number(row.source)} "
        f"| {row.number(row.compressed)} |"
        for row in report.measurements
    )
    table = f"\n\n| | source | compressed model |\n| --- | --- | --- |\n{rows}" if rows else ""
    return (
        f"## Results\n\nMeasured on the compressed model that this was made from, with recipe "
        f"`{_plain(report.recipe.name)}`, "
        f"{report.bits_per_weight.total:.2f} bits per compressed weight; not measured again in this form.{table}"
    )
