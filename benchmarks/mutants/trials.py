"""One fault after the other, each in a process of its own, in a copy of the project."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Literal

from benchmarks.mutants.operators import Mutant
from benchmarks.mutants.warm import OUTPUT

Outcome = Literal["killed", "survived", "timeout"]
ROOT = Path(__file__).resolve().parents[2]
LIMIT_FACTOR, LIMIT_SECONDS = 3.0, 20.0
"""A trial may take this many times as long as the tests without a fault, and this much more; then it is ended."""
_PASSED, _NO_TESTS = "0", "5"


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


class Project:
    """A copy of the project, and the process that runs tests in it.

    Args:
        folder: Empty; it is filled here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = copy_of_project(folder)
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        self._warm = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutants.warm"],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def run(self, tests: Sequence[str], *, limit: float | None) -> str:
        """Return the exit status of pytest, or `timeout`."""
        assert self._warm.stdin is not None
        self._warm.stdin.write(json.dumps({"tests": [*tests], "limit": limit}) + "\n")
        self._warm.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._warm.stdin is not None
        self._warm.stdin.close()
        self._warm.wait()

    def _read(self) -> str:
        assert self._warm.stdout is not None
        line = self._warm.stdout.readline()
        if not line:
            raise RuntimeError("the process that runs tests has ended")
        return line.strip()


def seconds_without_fault(project: Project, tests: Sequence[str]) -> float:
    """Return how long the tests of a module take. Raises TestsFailError when one of them fails."""
    began = time.monotonic()
    if project.run(tests, limit=None) != _PASSED:
        said = (project.folder / OUTPUT).read_text("utf-8")
        raise TestsFailError(f"{' '.join(tests)} fail without any fault:\n{said[-3000:]}")
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
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ExitStack() as open_projects:
        projects: Queue[Project] = Queue()
        for number in range(jobs):
            projects.put(open_projects.enter_context(closing(Project(Path(folder) / str(number)))))

        def attempt(module: str, mutant: Mutant) -> Trial:
            project = projects.get()
            try:
                return _try(project, module, mutant, tests[module], limits[module])
            finally:
                projects.put(project)

        with ThreadPoolExecutor(jobs) as pool:
            for done in as_completed([pool.submit(attempt, *fault) for fault in faults]):
                yield done.result()


def _try(project: Project, module: str, mutant: Mutant, tests: Sequence[str], limit: float) -> Trial:
    file = project.folder / module
    original = file.read_text("utf-8")
    began = time.monotonic()
    try:
        file.write_text(mutant.applied(original), "utf-8")
        status = project.run(tests, limit=limit)
    finally:
        file.write_text(original, "utf-8")
    outcome: Outcome = "timeout" if status == "timeout" else "survived" if status in (_PASSED, _NO_TESTS) else "killed"
    return Trial(module, mutant, outcome, time.monotonic() - began)
