"""Bits as people read them: over the whole model first, which is what is loaded, then over what was compressed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from srr_core.report import Report

_DTYPE_BITS: Final[Mapping[str, int]] = MappingProxyType({"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16})


def bits_of_model(report: Report, size_bytes: int | None = None) -> float | None:
    """Return the bits per weight over the whole model, what was kept included.

    The source says how many weights there are by its bytes; None where it is stored in no plain type.

    Args:
        size_bytes: Of all weight files; those of the artifact if not given.
    """
    bits, source = _DTYPE_BITS.get(report.source.dtype), report.size_bytes.source
    size = report.size_bytes.compressed if size_bytes is None else size_bytes
    return None if bits is None or source <= 0 else bits * size / source


def bits_words(layers: float | None, model: float | None) -> str:
    """Return both numbers of bits in words; an empty text where neither is known.

    Args:
        layers: Per weight of the compressed layers, scales and L·R counted.
        model: Per weight of the whole model.
    """
    parts = []
    if model is not None:
        parts.append(f"{model:.2f} over the whole model")
    if layers is not None:
        parts.append(f"{layers:.2f} in the compressed layers")
    return ", ".join(parts)


def report_bits(report: Report) -> str:
    """Return the bits of a report in words."""
    return bits_words(report.bits_per_weight.total, bits_of_model(report))


def bits_parts(report: Report) -> str:
    """Return what the bits of the compressed layers are made of, in words."""
    bits = report.bits_per_weight
    return (
        f"{bits.quantized:.2f} codes and scales + {bits.low_rank:.2f} L·R in the layers; {bits.stored:.2f} in the files"
    )
