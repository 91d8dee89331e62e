"""How much memory there is, and how much a run has used."""

import resource
import sys
from pathlib import Path

import torch

from srr_core.runtime.resident import resident_memory_bytes

RELOAD_COPIES = 2
"""Float32 copies of the model that the reload check holds at its peak."""
RELOAD_ALWAYS_PARAMETERS = 20_000_000
"""Models so small that loading them, 160 MB, is lost in the size of the interpreter."""


def may_reload(parameters: int) -> bool:
    """Return whether loading a whole model of this many parameters takes no more memory than the run itself did."""
    return parameters <= RELOAD_ALWAYS_PARAMETERS or fits_below_peak(parameters * 4 * RELOAD_COPIES)


def fits_below_peak(num_bytes: int) -> bool:
    """Return whether this much more can be held without going above the largest size this process has had."""
    return resident_memory_bytes() + num_bytes <= peak_memory_bytes()


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far, plus that of its CUDA memory."""
    return _host_peak_bytes() + (torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)


def _host_peak_bytes() -> int:
    # Not ru_maxrss where there is a choice: Linux carries that of the parent into a program it starts.
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, ValueError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
