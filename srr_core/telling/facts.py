"""The numbers of a compression in words: the same on the page, in a document and on a terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from srr_core.recipe.byte_sizes import size_words
from srr_core.report import Measurement, Report
from srr_core.telling.frontier import FrontierRow
from srr_core.telling.sizes import bits_parts, bits_words, report_bits


@dataclass(frozen=True)
class Fact:
    """One thing that is known of a result."""

    name: str
    """One word, for a narrow column; of several facts of one kind the same."""
    label: str
    value: str
    note: str = ""
    """What the value is made of, or compared with."""

    @property
    def words(self) -> str:
        """The value, with its note in parentheses."""
        return f"{self.value} ({self.note})" if self.note else self.value


def facts(report: Report) -> tuple[Fact, ...]:
    """Return what a result takes and how good it is, the measurements in their order."""
    return (*_sizes(report), *(measured(row) for row in report.measurements))


def measured(row: Measurement) -> Fact:
    """Return one measurement: its value, that of the source, and how far they are apart."""
    notes = [
        "" if row.source is None else f"source {number_words(row, row.source)}",
        _change(row),
        row.note(),
    ]
    return Fact("evaluation", row.title, number_words(row, row.compressed), ", ".join(filter(None, notes)))


def number_words(row: Measurement, value: float) -> str:
    """Return a value of a metric in its unit."""
    return size_words(value) if row.unit == "bytes" else row.number(value)


def beside_words(row: FrontierRow) -> str:
    """Return what a method that ran beside the result came to."""
    found = "not measured" if row.divergence is None else f"divergence {row.divergence:.3g}"
    bits = bits_words(row.bits_per_weight, row.bits_of_model)
    parts = [found, f"bits {bits}" if bits else "", size_words(row.size_bytes), row.size_note]
    return ", ".join(filter(None, parts))


def _sizes(report: Report) -> Iterator[Fact]:
    size = report.size_bytes
    count = len(report.layers)
    layers = f"over {count} layer{'' if count == 1 else 's'}"
    share = f", {100 * size.compressed / size.source:.0f} % of it" if size.source else ""
    yield Fact("recipe", "Recipe", f"{report.recipe.name}: {report.recipe.title}")
    yield Fact("bits", "Bits per weight", report_bits(report), bits_parts(report))
    yield Fact("size", "Size", size_words(size.compressed), f"from {size_words(size.source)}{share}")
    yield Fact("error", "Mean output error", f"{report.mean_output_error:.4f}", layers)


def _change(row: Measurement) -> str:
    if not row.source or row.difference is not None:
        return ""
    return f"{100 * (row.compressed / row.source - 1):+.1f} %"
