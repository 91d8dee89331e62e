"""What a conversion wrote: one frozen document, conversion.json."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from srr_core.recipe.exporters import ConversionSpec
from srr_core.report import Environment

REPORT_NAME = "conversion.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConvertedModel(_Frozen):
    """The artifact that was converted."""

    id: str
    sha: str | None
    """The commit, or None for a plain folder."""
    architecture: str
    made_from: str | None
    """What it was compressed from, as its own report says; None where it has none."""
    weight_bytes: int
    """Of all its weight files."""


class ConvertedFile(_Frozen):
    """One file that was written."""

    path: str
    size_bytes: int


class ConversionReport(_Frozen):
    """The whole result of a conversion. The numbers of the artifact were not measured again in the new form."""

    schema_version: Literal[1] = 1
    model: ConvertedModel
    target: ConversionSpec
    files: tuple[ConvertedFile, ...]
    """In the order of their paths, this document not counted."""
    weight_bytes: int
    """Of all weight files that were written."""
    remarks: tuple[str, ...]
    """What a user must know, one sentence each: weights that were rounded, packages that are needed."""
    environment: Environment
    seconds: float


def read_conversion_report(stored: Mapping[str, Any]) -> ConversionReport:
    """Return a stored report as far as this version knows it; fields of a later one are left out.

    Raises:
        ValidationError: what this version needs is missing or of another kind.
    """
    return ConversionReport.model_validate({**stored, "schema_version": 1}, extra="ignore")
