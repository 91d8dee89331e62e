"""Virtual environments for peers: made once, found again, and never half made."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
_READY = ".ready"
INSTALL_SECONDS = 3600.0
"""Torch alone is a download of minutes."""


class PeerError(Exception):
    """A peer cannot be installed or run; the message is one line that says why."""


def default_folder() -> Path:
    """Return the folder of the user's cache where environments stay."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "srr" / "peers"


def pinned(names: Iterable[str]) -> list[str]:
    """Return the requirements of this project's own pins, so that a peer computes on the same torch."""
    pins = dict(re.findall(r"^([\w.-]+)(==\S+)$", CONSTRAINTS.read_text(), re.MULTILINE))
    return [f"{name}{pins[name]}" for name in names]


def environment(folder: Path, name: str, requirements: list[str]) -> Path:
    """Return the Python of an environment that has these packages; it is made where it is not there.

    Its folder is known by its requirements and its Python, so another pin is another environment. One that was
    interrupted is made anew. Without requirements it comes without pip. `TORCH_PIP_ARGS` is as in the Makefile.

    Raises:
        PeerError: it cannot be made, or a package cannot be installed.
    """
    wanted = "\n".join([sys.version, *requirements])
    place = folder.resolve() / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python = place / "bin" / "python"
    if (place / _READY).exists() and python.exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    without_pip = [] if requirements else ["--without-pip"]
    ran([sys.executable, "-m", "venv", *without_pip, str(place)], seconds=INSTALL_SECONDS)
    if requirements:
        options = ["--quiet", "--disable-pip-version-check", *shlex.split(os.environ.get("TORCH_PIP_ARGS", ""))]
        ran([str(python), "-m", "pip", "install", *options, *requirements], seconds=INSTALL_SECONDS)
    (place / _READY).write_text(wanted)
    return python


def ran(command: list[str], *, seconds: float) -> None:
    """Run a command without this project: not on its path, and in an empty folder, where it may leave what it likes.

    What it prints is kept for the reason of a failure.

    Args:
        command: With absolute paths.

    Raises:
        PeerError: it cannot be started, fails, or takes too long.
    """
    surroundings = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    surroundings |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                command, cwd=folder, env=surroundings, check=False, timeout=seconds, text=True, errors="replace",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"it took longer than {seconds:.0f} s") from error
    except OSError as error:
        raise PeerError(f"{Path(command[0]).name} cannot be started: {error.strerror}") from error
    if done.returncode:
        raise PeerError(_reason(done.stdout, done.returncode))


def _reason(output: str, code: int) -> str:
    """Return the line that says most: pip's last `ERROR`, else the last line, which is a traceback's message."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    # Of a conflict pip's first error names the packages, the last one a page to read.
    chosen = errors[0] if errors else (lines[-1] if lines else f"it ended with status {code}")
    return chosen.removeprefix("ERROR: ").replace("|", "/")[:200]
