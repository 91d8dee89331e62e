"""A report in words and tables, for people who read Markdown."""

from collections.abc import Sequence

from service.api.tuning_markdown import tuning_markdown
from service.jobs.reports import AnyReport
from service.platform.markdown import cell, table
from srr_core.conversion_report import ConversionReport
from srr_core.evaluation_report import EvaluationReport
from srr_core.report import LayerReport, Measurement, Report
from srr_core.telling.cautions import cautions
from srr_core.telling.frontier import frontier
from srr_core.telling.verdict import verdict
from srr_core.tuners.report import TuningReport

_BYTES_PER_MEBIBYTE = 1024 * 1024


def markdown(report: AnyReport) -> str:
    """Return the report as Markdown. Names from the model cannot break out of their table cell."""
    if isinstance(report, EvaluationReport):
        return _evaluation(report)
    if isinstance(report, ConversionReport):
        return _conversion(report)
    return tuning_markdown(report) if isinstance(report, TuningReport) else _compression(report)


def _compression(report: Report) -> str:
    sections = (
        _summary(report),
        _verdict(report),
        _measurements(report.measurements),
        _layers(report),
        _kept(report),
        _notes(report.notes),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _verdict(report: Report) -> str:
    rows = [
        (
            cell(row.name),
            str(row.size_bytes) + (f" ({row.size_note})" if row.size_note else ""),
            "–" if row.bits_per_weight is None else f"{row.bits_per_weight:.3f}",
            "–" if row.divergence is None else f"{row.divergence:.4g}",
            "–" if row.divergence_error is None else f"{row.divergence_error:.2g}",
            "–" if row.perplexity is None else f"{row.perplexity:.4f}",
        )
        for row in frontier(report)
    ]
    header = ("", "Bytes", "Bits per weight", "Divergence", "Standard error", "Perplexity")
    found = "".join(f"\n- {cell(words)}" for words in cautions(report))
    return f"## Verdict\n\n{cell(verdict(report).sentence)}\n\n{table(header, rows)}" + (f"\n{found}" if found else "")


def _evaluation(report: EvaluationReport) -> str:
    models = [("Model", report.model), *([] if report.source is None else [("Compared with", report.source)])]
    rows = [
        *((word, f"{cell(model.id)} at {cell(model.sha or 'no commit')}") for word, model in models),
        ("Computed on", f"{cell(report.environment.device)} in {sum(report.seconds.values()):.1f} s"),
        *((f"Dataset {cell(name)}", cell(sha)) for name, sha in sorted(report.datasets.items())),
    ]
    summary = f"# {cell(report.model.id)}, measured\n\n" + table(("", ""), rows)
    sections = (
        summary,
        _measurements(report.measurements, column="Model"),
        _answers(report.measurements),
        _notes(report.notes),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _conversion(report: ConversionReport) -> str:
    model = report.model
    rows = [
        ("Artifact", f"{cell(model.id)} at {cell(model.sha or 'no commit')}"),
        ("Compressed from", cell(model.made_from or "unknown")),
        ("Format", cell(", ".join(f"{name} {value}" for name, value in report.target.model_dump().items()))),
        ("Weight files", f"{_mebibytes(report.weight_bytes)}, from {_mebibytes(model.weight_bytes)}"),
        ("Computed on", f"{cell(report.environment.device)} in {report.seconds:.1f} s"),
    ]
    files = table(("File", "Bytes"), [(cell(file.path), str(file.size_bytes)) for file in report.files])
    sections = (
        f"# {cell(model.id)} as {report.target.kind}\n\n" + table(("", ""), rows),
        f"## Files\n\n{files}",
        _notes(report.remarks),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _summary(report: Report) -> str:
    bits, size = report.bits_per_weight, report.size_bytes
    calibration, environment = report.calibration, report.environment
    rows = (
        ("Source", f"{cell(report.source.id)} at {cell(report.source.sha or 'no commit, a local folder')}"),
        ("Recipe", f"{cell(report.recipe.name)}: {cell(report.recipe.title)}"),
        ("Bits per weight", f"{bits.total:.3f} ({bits.quantized:.3f} quantized + {bits.low_rank:.3f} low-rank)"),
        ("Size", f"{_mebibytes(size.compressed)}, from {_mebibytes(size.source)}"),
        ("Mean output error", f"{report.mean_output_error:.4f}"),
        ("Calibration", f"{calibration.sequences} windows of {calibration.sequence_length} tokens"),
        ("Computed on", f"{cell(environment.device)} in {sum(report.seconds.values()):.1f} s"),
    )
    return f"# {cell(report.source.id)}, compressed\n\n" + table(("", ""), rows)


def _measurements(measurements: Sequence[Measurement], *, column: str = "Compressed") -> str:
    if not measurements:
        return ""
    rows = [_measurement(row) for row in measurements]
    protocols = "\n".join(f"- {cell(row.metric)}: {cell(row.protocol)}" for row in measurements)
    header = ("Metric", "Source", column, "Tokens", "Better", "Difference or error")
    return "## Evaluation\n\n" + table(header, rows) + f"\n\n{protocols}"


def _answers(measurements: Sequence[Measurement]) -> str:
    rows = [
        (cell(answer.prompt), cell(answer.source), cell(answer.compressed), str(answer.same_tokens))
        for row in measurements
        for answer in row.answers
    ]
    return "## Side by side\n\n" + table(("Prompt", "Source", "Model", "Same tokens"), rows) if rows else ""


def _measurement(row: Measurement) -> tuple[str, ...]:
    return (
        cell(row.metric),
        "–" if row.source is None else f"{row.source:.4f}",
        f"{row.compressed:.4f}",
        "–" if row.tokens is None else f"{row.tokens:,}",
        row.direction,
        cell(row.note()) or "–",
    )


def _layers(report: Report) -> str:
    header = ("Layer", "Shape", "Rank", "Preserved", "Output error", "Without L·R", "Bits per weight")
    return "## Layers\n\n" + table(header, [_layer(layer) for layer in report.layers])


def _layer(layer: LayerReport) -> tuple[str, ...]:
    return (
        cell(layer.name),
        f"{layer.shape[0]} × {layer.shape[1]}",
        str(layer.rank),
        str(layer.preserved_rank),
        f"{layer.output_error:.4f}",
        f"{layer.output_error_quantized_only:.4f}",
        f"{layer.bits_per_weight:.3f}",
    )


def _kept(report: Report) -> str:
    if not report.kept:
        return ""
    rows = [(cell(tensor.name), cell(tensor.reason)) for tensor in report.kept]
    return "## Kept in source precision\n\n" + table(("Weight", "Why"), rows)


def _notes(notes: Sequence[str]) -> str:
    return "## Notes\n\n" + "\n".join(f"- {cell(note)}" for note in notes) if notes else ""


def _mebibytes(size: int) -> str:
    return f"{size / _BYTES_PER_MEBIBYTE:.1f} MiB"
