"""A report of any kind of work as a document, and a file of unknown kind as the report it is."""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from service.jobs.reports import AnyReport
from service.jobs.tuning_words import tuning_document
from srr_core.conversion_report import REPORT_NAME as CONVERSION_NAME
from srr_core.conversion_report import ConversionReport, read_conversion_report
from srr_core.evaluation_report import EvaluationReport, read_evaluation_report
from srr_core.report import read_report
from srr_core.telling.compression_words import compression_document
from srr_core.telling.conversion_words import conversion_document
from srr_core.telling.document import Document
from srr_core.telling.measurement_words import evaluation_document
from srr_core.tuners.report import REPORT_NAME, TuningReport, read_tuning_report

_FILES: Final[Mapping[str, Callable[[Mapping[str, Any]], AnyReport]]] = MappingProxyType(
    {
        "report.json": read_report,
        REPORT_NAME: read_tuning_report,
        "evaluation.json": read_evaluation_report,
        CONVERSION_NAME: read_conversion_report,
    }
)
_TOLD_BY: Final = MappingProxyType({"cells": REPORT_NAME, "layers": "report.json", "target": CONVERSION_NAME})
"""A field that only one kind of report has."""
REPORT_FILES: Final[tuple[str, ...]] = tuple(_FILES)
"""The names a report has in a folder or in a repository; a fine-tuning that began at an artifact has two."""


def report_document(report: AnyReport) -> Document:
    """Return what a report says."""
    if isinstance(report, EvaluationReport):
        return evaluation_document(report)
    if isinstance(report, ConversionReport):
        return conversion_document(report)
    return tuning_document(report) if isinstance(report, TuningReport) else compression_document(report)


def read_any_report(content: bytes | str) -> AnyReport:
    """Return the report that a file holds, whatever its name.

    Raises:
        ValueError: it is none of ours, or of a version that this one cannot read.
    """
    stored = json.loads(content)
    if not isinstance(stored, dict):
        raise ValueError("it holds no JSON object")
    return _FILES[next((name for field, name in _TOLD_BY.items() if field in stored), "evaluation.json")](stored)
