"""How much memory this process holds, and what loading leaves there beside the model, given back to the system."""

import ctypes
import resource
from pathlib import Path

from torch import nn


def resident_memory_bytes() -> int:
    """Return the resident size of this process now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


def own_parameters(model: nn.Module) -> None:
    """Copy the parameters on the CPU out of the files they were loaded from, one at a time.

    A parameter that still points into a mapped file keeps all of the file in the resident memory, and the packed
    weights in it are there a second time.
    """
    for parameter in model.parameters():
        if parameter.device.type == "cpu":
            parameter.data = parameter.data.clone()


def release_freed() -> None:
    """Give freed memory back to the system where the C library can; packing frees as much as the model keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
