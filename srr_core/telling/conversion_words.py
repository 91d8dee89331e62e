"""A conversion as a document, and its numbers in words."""

from srr_core.conversion_report import ConversionReport
from srr_core.recipe.byte_sizes import size_words
from srr_core.telling.document import Bullets, Document, Grid, Section, filled


def conversion_document(report: ConversionReport) -> Document:
    """Return what a conversion says."""
    model = report.model
    rows = (
        ("Artifact", f"{model.id} at {model.sha or 'no commit'}"),
        ("Compressed from", model.made_from or "unknown"),
        ("Format", format_words(report)),
        ("Weight files", weight_words(report)),
        ("Computed on", f"{report.environment.device} in {report.seconds:.1f} s"),
    )
    files = tuple((file.path, size_words(file.size_bytes)) for file in report.files)
    return Document(
        f"{model.id} as {report.target.kind}",
        (Grid(("", ""), rows),),
        filled(
            (
                Section("Files", (Grid(("File", "Size"), files),)),
                Section("Notes", (Bullets(report.remarks),)) if report.remarks else None,
            )
        ),
    )


def format_words(report: ConversionReport) -> str:
    """Return the format with its options."""
    return ", ".join(f"{name} {value}" for name, value in report.target.model_dump().items())


def weight_words(report: ConversionReport) -> str:
    """Return the size of what was written and of what it was written from."""
    return f"{size_words(report.weight_bytes)}, from {size_words(report.model.weight_bytes)}"
