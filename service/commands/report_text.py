"""Reports on a terminal: the words of the pages, a fact a line, the verdict at the end."""

from collections.abc import Iterator, Sequence

from service.commands.output import print_line
from service.jobs.reports import AnyReport
from service.jobs.tuning_words import choice_words, drift_words, score_rows
from srr_core.conversion_report import ConversionReport
from srr_core.evaluation_report import EvaluationReport
from srr_core.report import Measurement, Report
from srr_core.telling.cautions import cautions
from srr_core.telling.conversion_words import format_words, weight_words
from srr_core.telling.facts import beside_words, facts, measured
from srr_core.telling.frontier import frontier
from srr_core.telling.verdict import verdict
from srr_core.tuners.report import TuningReport

_WIDTH = 12


def print_any_report(report: AnyReport) -> None:
    """Print what a report of any kind of work comes to."""
    if isinstance(report, EvaluationReport):
        print_line(_line("model", report.model.id))
        if report.source is not None:
            print_line(_line("source", report.source.id))
        print_measurements(report.measurements)
        _print_notes(report.notes)
    elif isinstance(report, TuningReport):
        print_scores(report)
        _print_notes(report.notes)
    elif isinstance(report, ConversionReport):
        print_line(_line("artifact", report.model.id))
        print_line(_line("format", format_words(report)))
        print_line(_line("weights", weight_words(report)))
        _print_notes(report.remarks)
    else:
        print_report(report)


def print_report(report: Report) -> None:
    """Print the numbers that matter of a compression, and at the end what they come to."""
    for name, words in _lines(report):
        print_line(_line(name, words))


def print_measurements(rows: Sequence[Measurement]) -> None:
    """Print a line for each measurement."""
    for row in rows:
        fact = measured(row)
        print_line(_line(fact.name, f"{fact.label}: {fact.words}"))


def print_scores(report: TuningReport) -> None:
    """Print the numbers that matter of a fine-tuning, the start's before the result's."""
    for name, before, after in score_rows(report):
        print_line(_line(name, after if before == "–" else f"{before} → {after}"))
    print_line(_line("chosen", choice_words(report)))
    if report.neutral is not None:
        print_line(_line("drift", drift_words(report)))


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    for fact in facts(report):
        is_measured = fact.name == "evaluation"
        yield fact.name, f"{fact.label}: {fact.words}" if is_measured else fact.words
    for row in frontier(report)[1:-1]:
        yield "beside it", f"{row.name}: {beside_words(row)}"
    yield from (("caution", caution) for caution in cautions(report))
    yield "verdict", verdict(report).sentence


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print_line(_line("note", note))


def _line(name: str, words: str) -> str:
    return f"{name:<{_WIDTH}}{words}"
