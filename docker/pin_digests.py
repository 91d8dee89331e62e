"""Pins every foreign image of the Dockerfiles and compose files to what its tag means today; `make digests` runs it.

A tag can be moved, a digest cannot. The tag stays beside it for the reader. A digest is what a registry answers: this
needs `docker buildx` and a network, and a person who looks at the change before it is committed.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_NAMED = re.compile(r"^(FROM |\s+image: )([\w./-]+:[\w.-]+)(@sha256:[0-9a-f]{64})?(?=\s|$)", re.MULTILINE)


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """Return a Dockerfile or compose file with the digest of each image after its tag."""
    return _NAMED.sub(lambda match: f"{match[1]}{match[2]}@{digest_of(match[2])}", text)


def ask_registry(image: str) -> str:
    """Return the digest of an image, all its machines together. Raises CalledProcessError when it cannot be had."""
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", image]
    digest = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise SystemExit(f"{image} has no digest: {digest!r}")
    return digest


def main() -> None:
    """Pin all of them."""
    paths = [
        ROOT / "docker-compose.yml",
        *(ROOT / "docker").glob("compose.*.yml"),
        *(ROOT / "docker").glob("*.Dockerfile"),
    ]
    for path in paths:
        path.write_text(pinned(path.read_text(encoding="utf-8"), ask_registry), encoding="utf-8")


if __name__ == "__main__":
    main()
