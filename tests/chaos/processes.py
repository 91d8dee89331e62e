"""Processes of an installation, told apart by what they inherit, and signals for one of them or a whole tree."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

RUN_VARIABLE = "SRR_CHAOS_RUN"
"""Inherited by everything that an installation starts, so that nothing of it can hide."""
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)
_JOB_MODULE = "worker.child"


class Service:
    """A process of the product under a manager that starts it again: a worker or an API."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = tuple(arguments)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.is_running:
            return
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether its main process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """How its main process ended; None while it runs."""
        return None if self._process is None else self._process.poll()

    def tree(self) -> list[psutil.Process]:
        """Return its main process and everything below it."""
        if self._process is None:
            return []
        try:
            main = psutil.Process(self._process.pid)
            return [main, *main.children(recursive=True)]
        except _GONE:
            return []

    def main(self) -> list[psutil.Process]:
        """Return its main process alone."""
        return self.tree()[:1]

    def job_processes(self) -> list[psutil.Process]:
        """Return the process of its job, if there is one."""
        return [process for process in self.tree() if is_job_process(process)]

    def supervisors(self) -> list[psutil.Process]:
        """Return the process that has a job's process below it."""
        # Of the tree only: a job whose supervisor has just died belongs to the system, which no fault may reach.
        tree = self.tree()
        above = {_parent(process) for process in tree if is_job_process(process)}
        return [process for process in tree if process in above]

    def wait(self, seconds: float) -> None:
        """Wait for the end of its main process. Raises subprocess.TimeoutExpired."""
        if self._process is not None:
            self._process.wait(seconds)


def is_job_process(process: psutil.Process) -> bool:
    """Whether a process carries out a job."""
    try:
        return _JOB_MODULE in process.cmdline()
    except _GONE:
        return False


def job_of(process: psutil.Process) -> str | None:
    """Return the id of the job a process carries out."""
    with suppress(*_GONE):
        parts = Path(process.environ().get("TMPDIR", "")).parts
        return next((part for part in parts if part.startswith("job_")), None)
    return None


def kill_together(processes: Sequence[psutil.Process]) -> None:
    """Kill processes as one: none of them sees another die first."""
    send(processes, signal.SIGSTOP)
    send(processes, signal.SIGKILL)


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for process in processes:
        with suppress(*_GONE):
            process.send_signal(number)


def processes_of(run: str) -> list[psutil.Process]:
    """Return every process that has inherited the name of a run, this one apart."""
    return [process for process in psutil.process_iter() if _is_of(process, run)]


def _is_of(process: psutil.Process, run: str) -> bool:
    if process.pid == os.getpid():
        return False
    with suppress(*_GONE):
        return process.environ().get(RUN_VARIABLE) == run and process.status() != psutil.STATUS_ZOMBIE
    return False


def describe(processes: Sequence[psutil.Process]) -> Iterator[str]:
    """Say what processes are, for a person."""
    for process in processes:
        with suppress(*_GONE):
            yield f"{process.pid} (child of {process.ppid()}): {' '.join(process.cmdline())[-120:]}"


def _parent(process: psutil.Process) -> psutil.Process | None:
    with suppress(*_GONE):
        parent: psutil.Process | None = process.parent()
        return parent
    return None
