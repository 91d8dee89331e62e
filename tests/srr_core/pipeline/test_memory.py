"""What a report says a run took in memory."""

import subprocess
import sys

MEASURE = "from srr_core.pipeline.memory import peak_memory_bytes; print(peak_memory_bytes())"
LARGE_PARENT = """
import subprocess, sys
held = bytearray(2_000_000_000)
held[:: 4096] = b"x" * len(held[:: 4096])
print(subprocess.run([sys.executable, "-c", sys.argv[1]], check=True, capture_output=True, text=True).stdout)
"""


def test_the_peak_of_a_run_is_not_that_of_the_process_that_started_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE_PARENT, MEASURE], check=True, capture_output=True, text=True, timeout=120
    )

    assert 50_000_000 < int(done.stdout) < 1_500_000_000
