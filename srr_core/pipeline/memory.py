"""How much memory there is, and how much a run has used."""

import resource
import sys
from pathlib import Path

import torch


def fits_below_peak(num_bytes: int) -> bool:
    """Return whether this much more can be held without going above the largest size this process has had."""
    return resident_memory_bytes() + num_bytes <= peak_memory_bytes()


def resident_memory_bytes() -> int:
    """Return the resident size of this process now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far, plus that of its CUDA memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return host + (torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)
