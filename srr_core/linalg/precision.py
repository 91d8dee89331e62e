"""Arithmetic without shortcuts, inside a scope."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MATMULS = (
    torch.backends.cuda.matmul,
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]  # public, but not declared so
)


@contextmanager
def exact_matmul() -> Iterator[None]:
    """Switch TF32 and its like off while statistics and decompositions are computed, and restore the caller's choice.

    TF32 keeps 10 bits of mantissa, which loses the small singular directions that L·R is made of. The caller may
    have chosen by either interface of torch, `set_float32_matmul_precision` or `fp32_precision`.
    """
    chosen = [matmul.fp32_precision for matmul in _MATMULS]
    for matmul in _MATMULS:
        matmul.fp32_precision = "ieee"
    # Only now can the older interface be read: it raises where it disagrees with the newer one.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        for matmul, precision in zip(_MATMULS, chosen, strict=True):
            # "none" follows torch.backends.fp32_precision; only what that does not give was chosen here.
            matmul.fp32_precision = "none"
            if matmul.fp32_precision != precision:
                matmul.fp32_precision = precision
