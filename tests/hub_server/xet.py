"""The Xet side: files lie in a directory the client itself writes, through a `local://` address of its store.

`local://` is undocumented in hf_xet; tests that use it skip when it stops working. The uploaded shard files map a
file's SHA-256 to its Xet hash; their layout is in the Hub's documentation, docs/xet/shard.md.
"""

import struct
import time
from collections.abc import Iterator
from pathlib import Path

_HEADER_BYTES = 48
_ENTRY_BYTES = 48
_BOOKEND = b"\xff" * 32
_HAS_VERIFICATION = 1 << 31
_HAS_METADATA = 1 << 30


class XetStore:
    """A content-addressed store in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def connection(self) -> dict[str, str | int]:
        """Return what a client needs to reach the store."""
        return {
            "accessToken": "xet-token",
            "exp": int(time.time()) + 3600,
            "casUrl": f"local://{self.directory}",
        }

    def hash_of(self, sha256: str) -> str | None:
        """Return the Xet hash of a stored file."""
        for shard in self.directory.rglob("*.mdb"):
            for found, xet_hash in _files(shard.read_bytes()):
                if found == sha256:
                    return xet_hash
        return None


def _files(shard: bytes) -> Iterator[tuple[str, str]]:
    offset = _HEADER_BYTES
    while (file_hash := shard[offset : offset + 32]) != _BOOKEND:
        flags, segments = struct.unpack("<II", shard[offset + 32 : offset + 40])
        offset += _ENTRY_BYTES * (1 + segments)
        if flags & _HAS_VERIFICATION:
            offset += _ENTRY_BYTES * segments
        if flags & _HAS_METADATA:
            yield _hexadecimal(shard[offset : offset + 32]), _hexadecimal(file_hash)
            offset += _ENTRY_BYTES


def _hexadecimal(digest: bytes) -> str:
    # A hash is written as four 64-bit words, each in little-endian order.
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))
