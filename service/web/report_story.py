"""What the page of a report shows first: the verdict, what speaks against it, and the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from srr_core.report import LayerReport, Report
from srr_core.telling.cautions import cautions
from srr_core.telling.facts import Fact, facts
from srr_core.telling.frontier import Earlier, FrontierRow, frontier
from srr_core.telling.gallery import pictures
from srr_core.telling.heat_picture import worst_layers
from srr_core.telling.pictures import NARROW, WIDE, Picture
from srr_core.telling.size_picture import kept_reasons
from srr_core.telling.spectrum_picture import spectrum_picture
from srr_core.telling.verdict import Verdict, verdict


@dataclass(frozen=True)
class ShownPicture:
    """One picture in both extents; a page shows the one that fits."""

    picture: Picture
    drawings: tuple[str, str]
    """Wide, then narrow; every word in them is escaped by the functions that draw."""


@dataclass(frozen=True)
class ReportStory:
    """The beginning of a report's page."""

    verdict: Verdict
    cautions: tuple[str, ...]
    facts: tuple[Fact, ...]
    frontier: tuple[FrontierRow, ...]
    pictures: dict[str, ShownPicture]
    """By name, in order."""
    worst: tuple[LayerReport, ...]
    kept_reasons: tuple[str, ...]


def report_story(report: Report, earlier: Sequence[Earlier] = ()) -> ReportStory:
    """Return the story of a report, from it alone but for the earlier results that stand beside it."""
    pairs = zip(pictures(report, WIDE, earlier), pictures(report, NARROW, earlier), strict=True)
    return ReportStory(
        verdict=verdict(report),
        cautions=cautions(report),
        facts=facts(report),
        frontier=frontier(report, earlier),
        pictures={
            wide.name: ShownPicture(wide, (wide.inline("wide-only"), narrow.inline("narrow-only")))
            for wide, narrow in pairs
        },
        worst=worst_layers(report),
        kept_reasons=kept_reasons(report),
    )


def shown_spectrum(report: Report, name: str) -> ShownPicture | None:
    """Return the singular values of a layer; None where it has none, or there is no such layer."""
    layer = next((one for one in report.layers if one.name == name), None)
    wide = None if layer is None else spectrum_picture(layer, WIDE)
    narrow = None if layer is None else spectrum_picture(layer, NARROW)
    if wide is None or narrow is None:
        return None
    return ShownPicture(wide, (wide.inline("wide-only"), narrow.inline("narrow-only")))
