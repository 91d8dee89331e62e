"""What is known of one finished layer beside its tensors: what a resume, the assembly and the report go by."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from srr_core.report import LayerReport

LAYER_RECORD_VERSION = 2


class LayerRecord(BaseModel):
    """One finished layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    name: str
    digest: str
    """`verification.layer_digest` of its codes, scales and factors."""
    base_tensors: tuple[str, ...]
    """The names of its tensors that go into the checkpoint."""
    adapter_tensors: tuple[str, ...]
    """The names of those that go into the adapter's file; none at rank 0."""
    report: LayerReport
    together: tuple[str, ...] = ()
    """The layers it learned with, itself among them; they are finished together, or done again."""


def read_layer_record(stored: Mapping[str, Any]) -> LayerRecord:
    """Return a record that was written by this version, an older or a newer one; unknown fields are passed over.

    Raises:
        ValueError: it says something this version has no word for, or is no record.
    """
    record = dict(stored)
    if "schema_version" not in record:
        record = _first_version(record)
    return LayerRecord.model_validate(record | {"schema_version": LAYER_RECORD_VERSION}, extra="ignore")


def _first_version(record: dict[str, Any]) -> dict[str, Any]:
    """The first version kept both lists of names in one place, and no version."""
    names = record.get("tensors")
    if not isinstance(names, Mapping):
        raise ValueError("this is no record of a layer: it names no tensors")
    return {**record, "base_tensors": names.get("base"), "adapter_tensors": names.get("adapter")}
