"""A job's process with a stand-in for the core: what it does is the first word of SRR_STAND_IN.

Run as a script by the supervisor under test, in place of `python -m worker.child`.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from service.hub.errors import HubUnavailableError
from srr_core.errors import StopRequested, UnsupportedModelError
from srr_core.recipe import Recipe
from srr_core.report import Report
from tests.worker.artifacts import report, write_artifact
from worker.child import main

SECRET = "hf_StandInSecret1234"


def stand_in(
    source: Path,
    recipe: Recipe,
    destination: Path,
    *,
    should_stop: Callable[[], bool],
    model_id: str,
    revision: str,
    artifact_id: str,
    calibration_text: Path,
    evaluation_text: Path,
    device: str,
    on_progress: object,
) -> Report:
    """Behave as told, and write a small artifact in the end."""
    partial = destination.with_name("artifact.partial")
    partial.mkdir(exist_ok=True)
    (partial / f"attempt-{len(list(partial.iterdir())) + 1}").write_text(calibration_text.read_text()[:100])
    BEHAVIOURS[os.environ["SRR_STAND_IN"]](partial, should_stop)
    made = report()
    made = made.model_copy(
        update={"recipe": recipe, "source": made.source.model_copy(update={"id": model_id, "sha": revision})}
    )
    write_artifact(destination, made)
    (destination / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": artifact_id}))
    return made


def wait(_: Path, should_stop: Callable[[], bool]) -> None:
    """Work until asked to stop."""
    while not should_stop():
        time.sleep(0.02)
    raise StopRequested("stopped")


def linger(folder: Path, should_stop: Callable[[], bool]) -> None:
    """Finish a long layer before stopping: one that ends when the test says so."""
    while not should_stop():
        time.sleep(0.02)
    (folder / "finishing").touch()
    while not (folder / "finish").exists():
        time.sleep(0.02)
    raise StopRequested("stopped")


def ignore(folder: Path, _: Callable[[], bool]) -> None:
    """Hang with a child of its own, deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder.parent / "grandchild.pid").write_text(str(grandchild.pid))
    time.sleep(600)


def crash_once(folder: Path, _: Callable[[], bool]) -> None:
    """Be killed at the first attempt, as by the kernel when memory runs out; then work."""
    if len(list(folder.glob("attempt-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def full(*_: object) -> None:
    """Run out of disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def unavailable(*_: object) -> None:
    """Lose the Hub."""
    raise HubUnavailableError("The Hub does not answer.")


def unsupported(*_: object) -> None:
    """Meet a model that cannot be compressed."""
    raise UnsupportedModelError("MambaForCausalLM is not supported")


def bug(*_: object) -> None:
    """Fail in a way nobody thought of, with a secret in the words."""
    raise RuntimeError(f"401 for {SECRET}")


def fill(folder: Path, should_stop: Callable[[], bool]) -> None:
    """Take more disk than allowed."""
    (folder / "large").write_bytes(b"x" * 200_000)
    wait(folder, should_stop)


def swell(folder: Path, should_stop: Callable[[], bool]) -> None:
    """Take more memory than allowed."""
    taken = b"x" * 600_000_000
    wait(folder, should_stop)
    del taken


def leak(folder: Path, _: Callable[[], bool]) -> None:
    """Show what this process was given in its arguments and environment."""
    command = Path("/proc/self/cmdline").read_bytes()
    (folder.parent.parent / "seen").write_bytes(command + Path("/proc/self/environ").read_bytes())


def tell_environment(folder: Path, _: Callable[[], bool]) -> None:
    """Write down what anybody with a shell, or a bug in a library, could read of this process."""
    seen = [Path("/proc/self", name).read_bytes() for name in ("environ", "cmdline")]
    seen.append("\n".join(f"{name}={value}" for name, value in os.environ.items()).encode())
    (folder.parents[2] / "environment").write_bytes(b"\n".join(seen))


BEHAVIOURS: dict[str, Callable[[Path, Callable[[], bool]], None]] = {
    "succeed": lambda *_: None,
    "wait": wait,
    "linger": linger,
    "ignore": ignore,
    "crash_once": crash_once,
    "full": full,
    "unavailable": unavailable,
    "unsupported": unsupported,
    "bug": bug,
    "fill": fill,
    "swell": swell,
    "leak": leak,
    "tell_environment": tell_environment,
}

if __name__ == "__main__":
    sys.exit(main(compress=stand_in))
