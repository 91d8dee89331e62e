"""Measurements as a table, and an evaluation outside of a compression as a document."""

from collections.abc import Sequence

from srr_core.evaluation_report import EvaluationReport
from srr_core.report import Measurement
from srr_core.telling.document import Bullets, Document, Grid, Section, filled
from srr_core.telling.facts import number_words


def evaluation_document(report: EvaluationReport) -> Document:
    """Return what an evaluation says."""
    models = [("Model", report.model), *([] if report.source is None else [("Compared with", report.source)])]
    rows = (
        *((word, f"{model.id} at {model.sha or 'no commit'}") for word, model in models),
        ("Computed on", f"{report.environment.device} in {sum(report.seconds.values()):.1f} s"),
        *((f"Dataset {name}", sha) for name, sha in sorted(report.datasets.items())),
    )
    return Document(
        f"{report.model.id}, measured",
        (Grid(("", ""), rows),),
        filled(
            (
                measurement_section(report.measurements, column="Model"),
                _answers(report.measurements),
                Section("Notes", (Bullets(report.notes),)) if report.notes else None,
            )
        ),
    )


def measurement_section(measurements: Sequence[Measurement], *, column: str) -> Section | None:
    """Return a table of measurements with the protocol of each; None without any.

    Args:
        column: What the values are of.
    """
    if not measurements:
        return None
    header = ("Metric", "Source", column, "Tokens", "Better", "Difference or error")
    rows = tuple(_row(row) for row in measurements)
    protocols = tuple(f"{row.metric}: {row.protocol}" for row in measurements)
    return Section("Evaluation", (Grid(header, rows), Bullets(protocols)))


def _answers(measurements: Sequence[Measurement]) -> Section | None:
    rows = tuple(
        (answer.prompt, answer.source, answer.compressed, str(answer.same_tokens))
        for row in measurements
        for answer in row.answers
    )
    return Section("Side by side", (Grid(("Prompt", "Source", "Model", "Same tokens"), rows),)) if rows else None


def _row(row: Measurement) -> tuple[str, ...]:
    return (
        row.metric,
        "–" if row.source is None else number_words(row, row.source),
        number_words(row, row.compressed),
        "–" if row.tokens is None else f"{row.tokens:,}",
        row.direction,
        row.note() or "–",
    )
