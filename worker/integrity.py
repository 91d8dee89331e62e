"""Whether a downloaded file is the one the hub listed, byte for byte."""

import hashlib
import shutil
from collections.abc import Set
from pathlib import Path, PurePosixPath

from service.hub.errors import DownloadCorruptedError
from service.hub.model import RepoFile

_CHUNK_BYTES = 1 << 20


def verify_file(directory: Path, file: RepoFile, *, model_id: str) -> None:
    """Compare a file with its listed size and hash; a wrong one is removed. Reads the whole file.

    Raises:
        DownloadCorruptedError: it is missing or differs.
    """
    path = directory / file.path
    problem = _problem(path, file)
    if problem is not None:
        path.unlink(missing_ok=True)
        raise DownloadCorruptedError(f"{file.path} of {model_id} {problem}; it was discarded, try again.")


def _problem(path: Path, file: RepoFile) -> str | None:
    if not path.is_file():
        return "is missing after the download"
    size = path.stat().st_size
    if size != file.size_bytes:
        return f"has {size} bytes where the hub lists {file.size_bytes}"
    if file.sha256 is not None and sha256_of(path) != file.sha256:
        return "does not have the listed SHA-256"
    # A large file's blob id is that of its pointer, so it says nothing about the content.
    if file.sha256 is None and file.git_sha1 is not None and git_sha1_of(path) != file.git_sha1:
        return "does not have the listed git blob id"
    return None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return _digest(path, hashlib.sha256())


def git_sha1_of(path: Path) -> str:
    """Return the id git gives to a file's content."""
    return _digest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False))


def _digest(path: Path, digest: "hashlib._Hash") -> str:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def discard_unlisted(directory: Path, listed: Set[str]) -> None:
    """Remove everything but the listed files: leftovers of another revision, and the client's own notes.

    Args:
        listed: Paths relative to the directory, with `/` between folders.
    """
    kept = {folder.as_posix() for name in listed for folder in PurePosixPath(name).parents}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if name in listed or name in kept or not (path.exists() or path.is_symlink()):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
