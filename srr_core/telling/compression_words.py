"""The report of a compression as a document."""

from srr_core.recipe.byte_sizes import size_words
from srr_core.report import LayerReport, Report
from srr_core.telling.cautions import cautions
from srr_core.telling.document import Block, Bullets, Document, Drawn, Grid, Section, Words, filled
from srr_core.telling.facts import facts
from srr_core.telling.frontier import FrontierRow, frontier
from srr_core.telling.gallery import pictures
from srr_core.telling.measurement_words import measurement_section
from srr_core.telling.pictures import Picture
from srr_core.telling.size_picture import kept_reasons
from srr_core.telling.verdict import verdict


def compression_document(report: Report) -> Document:
    """Return what a report says, from it alone: the same report, the same document."""
    drawn = {picture.name: picture for picture in pictures(report)}
    return Document(
        f"{report.source.id}, compressed",
        (_summary(report),),
        filled(
            (
                _verdict(report, drawn),
                measurement_section(report.measurements, column="Compressed"),
                _size(report, drawn),
                _layers(report, drawn),
                _kept(report),
                Section("Notes", (Bullets(report.notes),)) if report.notes else None,
            )
        ),
    )


def _summary(report: Report) -> Grid:
    calibration, environment = report.calibration, report.environment
    rows = (
        ("Source", f"{report.source.id} at {report.source.sha or 'no commit, a local folder'}"),
        *((fact.label, fact.words) for fact in facts(report) if fact.name != "evaluation"),
        ("Calibration", f"{calibration.sequences} windows of {calibration.sequence_length} tokens"),
        ("Computed on", f"{environment.device} in {sum(report.seconds.values()):.1f} s"),
    )
    return Grid(("", ""), rows)


def _verdict(report: Report, drawn: dict[str, Picture]) -> Section:
    header = ("", "Size", "Bits of the model", "In its layers", "Divergence", "Perplexity")
    blocks: list[Block] = [Words(verdict(report).sentence, is_strong=True), *_shown(drawn, "frontier")]
    blocks.append(Grid(header, tuple(_row(row) for row in frontier(report))))
    found = cautions(report)
    if found:
        blocks.append(Bullets(tuple(found)))
    return Section("Verdict", tuple(blocks))


def _row(row: FrontierRow) -> tuple[str, ...]:
    error = "" if row.divergence_error is None else f" ± {row.divergence_error:.2g}"
    return (
        row.name,
        size_words(row.size_bytes) + (f" ({row.size_note})" if row.size_note else ""),
        "–" if row.bits_of_model is None else f"{row.bits_of_model:.2f}",
        "–" if row.bits_per_weight is None else f"{row.bits_per_weight:.2f}",
        "–" if row.divergence is None else f"{row.divergence:.3g}{error}",
        "–" if row.perplexity is None else f"{row.perplexity:.3f}",
    )


def _size(report: Report, drawn: dict[str, Picture]) -> Section | None:
    shown = _shown(drawn, "size")
    reasons = kept_reasons(report)
    why = (Words(f"Kept, because: {'; '.join(reasons)}."),) if reasons else ()
    return Section("Size", (*shown, *why)) if shown else None


def _layers(report: Report, drawn: dict[str, Picture]) -> Section:
    header = ("Layer", "Shape", "Rank", "Preserved", "Output error", "Without L·R", "Bits per weight")
    return Section("Layers", (*_shown(drawn, "errors"), Grid(header, tuple(_layer(layer) for layer in report.layers))))


def _layer(layer: LayerReport) -> tuple[str, ...]:
    return (
        layer.name,
        f"{layer.shape[0]} × {layer.shape[1]}",
        str(layer.rank),
        str(layer.preserved_rank),
        f"{layer.output_error:.4f}",
        f"{layer.output_error_quantized_only:.4f}",
        f"{layer.bits_per_weight:.3f}",
    )


def _kept(report: Report) -> Section | None:
    if not report.kept:
        return None
    rows = tuple((tensor.name, tensor.reason) for tensor in report.kept)
    return Section("Kept in source precision", (Grid(("Weight", "Why"), rows),))


def _shown(drawn: dict[str, Picture], name: str) -> tuple[Drawn, ...]:
    return (Drawn(drawn[name]),) if name in drawn else ()
