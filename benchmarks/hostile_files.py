"""What a stranger's broken files cost at most: processor time and memory of each reading, one process for each reader.

The goal is 2 s and 500 MB for the readers that answer before a run: inspect, plan and load. The suite looks at how each
ends (`tests/attacks/test_fuzz.py`); here the same faults and many more are measured. A run of `compress` computes, so
its time is that of a run of the small model where a fault is harmless.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.attacks.broken_files import broken_file
from tests.attacks.reading import READERS, end_of

_RESET_PEAK = "5"
"""Written to clear_refs, makes the kernel count the peak of resident memory anew (proc(5))."""


class Cost(NamedTuple):
    """What one reading took, and how it ended."""

    seconds: float
    mebibytes: float
    end: str
    file: str
    number: int


def measure(reader: str, name: str, rounds: int) -> list[Cost]:
    """Return what each fault of a file costs a reader, in this process."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "model"
        READERS[reader].build(folder)
        sound = (folder / name).read_bytes()
        end_of(READERS[reader].read, folder)  # imports, which every process pays once
        return [_cost(reader, folder, name, broken_file(name, sound, number), number) for number in range(rounds)]


def _cost(reader: str, folder: Path, name: str, content: bytes, number: int) -> Cost:
    (folder / name).write_bytes(content)
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    before, began = _status("VmRSS"), time.process_time()
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        end = end_of(READERS[reader].read, folder)
    return Cost(time.process_time() - began, (_status("VmHWM") - before) / 1024, end, name, number)


def _status(field: str) -> int:
    """Return a size of this process, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _tell(reader: str, costs: list[Cost]) -> None:
    slowest, largest = max(costs), max(costs, key=lambda cost: cost.mebibytes)
    foreign = [cost for cost in costs if cost.end not in ("read", "refused")]
    refused = sum(cost.end == "refused" for cost in costs)
    print(
        f"{reader}: {len(costs)} files, {refused} refused, {len(foreign)} foreign; "
        f"at most {slowest.seconds:.2f} s ({slowest.file} {slowest.number}, {slowest.end}) and "
        f"{largest.mebibytes:.0f} MiB ({largest.file} {largest.number}, {largest.end})"
    )
    for cost in foreign:
        print(f"  {cost.file} {cost.number}: {cost.end}")


def main() -> None:
    """Measure every reader in a process of its own, or one in this."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="Faults of each file.")
    parser.add_argument("--reader", choices=sorted(READERS), help="Only this one, in this process.")
    chosen = parser.parse_args()
    if chosen.reader is None:
        for reader in READERS:
            command = [sys.executable, "-m", "benchmarks.hostile_files", "--rounds", str(chosen.rounds)]
            subprocess.run([*command, "--reader", reader], check=True, stderr=subprocess.DEVNULL)
        return
    costs = [cost for name in READERS[chosen.reader].files for cost in measure(chosen.reader, name, chosen.rounds)]
    _tell(chosen.reader, costs)


if __name__ == "__main__":
    main()
