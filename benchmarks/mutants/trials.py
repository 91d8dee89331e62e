"""One fault after the other, each in a process of its own, in a copy of the project."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Literal

from benchmarks.mutants.operators import Mutant

Outcome = Literal["killed", "survived", "timeout"]
ROOT = Path(__file__).resolve().parents[2]
LIMIT_FACTOR, LIMIT_SECONDS = 3.0, 20.0
"""A trial may take this many times as long as the tests without a fault, and this much more; then it is ended."""
_PASSED, _NO_TESTS = 0, 5


@dataclass(frozen=True)
class Trial:
    """What became of one fault."""

    module: str
    mutant: Mutant
    outcome: Outcome
    seconds: float


class TestsFailError(Exception):
    """The tests of a module fail without any fault, so they can say nothing."""


def copy_of_project(folder: Path) -> Path:
    """Return a copy of the files that git knows or would know, as they are now."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def seconds_without_fault(project: Path, tests: Sequence[str]) -> float:
    """Return how long the tests of a module take. Raises TestsFailError when one of them fails."""
    began = time.monotonic()
    code, output = _run(project, tests, limit=None)
    if code != _PASSED:
        raise TestsFailError(f"{' '.join(tests)} fail without any fault:\n{output[-2000:]}")
    return time.monotonic() - began


def try_all(
    faults: Sequence[tuple[str, Mutant]], tests: dict[str, tuple[str, ...]], limits: dict[str, float], *, jobs: int
) -> Iterator[Trial]:
    """Yield what becomes of each fault, as they end.

    Args:
        faults: Module and fault.
        tests: By module.
        limits: Seconds a trial may take, by module.
        jobs: Trials at once; each has a copy of the project.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: Queue[Path] = Queue()
        for number in range(jobs):
            copies.put(copy_of_project(Path(folder) / str(number)))

        def attempt(module: str, mutant: Mutant) -> Trial:
            project = copies.get()
            try:
                return _try(project, module, mutant, tests[module], limits[module])
            finally:
                copies.put(project)

        with ThreadPoolExecutor(jobs) as pool:
            for done in as_completed([pool.submit(attempt, *fault) for fault in faults]):
                yield done.result()


def _try(project: Path, module: str, mutant: Mutant, tests: Sequence[str], limit: float) -> Trial:
    file = project / module
    original = file.read_text("utf-8")
    began = time.monotonic()
    try:
        file.write_text(mutant.applied(original), "utf-8")
        code, _ = _run(project, tests, limit=limit)
    finally:
        file.write_text(original, "utf-8")
    outcome: Outcome = "timeout" if code is None else "survived" if code in (_PASSED, _NO_TESTS) else "killed"
    return Trial(module, mutant, outcome, time.monotonic() - began)


def _run(project: Path, tests: Sequence[str], *, limit: float | None) -> tuple[int | None, str]:
    """Return the exit status of pytest, None when it ran past its limit, and what it said."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider"]
    scratch = project / ".scratch"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "HYPOTHESIS_DATABASE": ""}
    with subprocess.Popen(
        [*command, f"--basetemp={scratch}", *tests],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, ""
        return process.returncode, output
