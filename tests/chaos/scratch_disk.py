"""The disk of the workers: a small one of its own where the system allows it, so that it can really be full."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

_SIZE_BYTES = 96 << 20
_RESERVE_BYTES = 4 << 20


class ScratchDisk:
    """A directory on a memory file system of fixed size; an ordinary directory where mounting is not allowed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self._ballast = directory / "ballast"
        self.can_fill = _mount(directory)

    @property
    def reserve_bytes(self) -> int:
        """Space a worker keeps free."""
        return _RESERVE_BYTES if self.can_fill else 0

    def fill(self) -> None:
        """Leave next to nothing free."""
        if not self.can_fill:
            return
        with suppress(OSError), self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self.directory).free - 65_536))

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)

    def left(self) -> list[str]:
        """Return what lies there that belongs to a job."""
        return sorted(path.name for path in self.directory.iterdir() if path.name.startswith("job_"))

    def close(self) -> None:
        """Unmount."""
        if self.can_fill:
            subprocess.run(["umount", "--lazy", str(self.directory)], check=False, capture_output=True)


def _mount(directory: Path) -> bool:
    if os.geteuid() != 0:
        return False
    options = f"size={_SIZE_BYTES},mode=0755"
    command = ["mount", "-t", "tmpfs", "-o", options, "srr-chaos", str(directory)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
