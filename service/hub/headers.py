"""The header of a safetensors file that lies elsewhere, read in one or two parts by the core's own rules."""

from collections.abc import Callable

from service.hub.model import RepoFile
from srr_core.checkpoint.header_text import PREFIX_BYTES, Bounds, HeaderEntry, header_length, parse_header
from srr_core.errors import DamagedHeaderError

FIRST_BYTES = 100_000
"""Asked for at once; most headers are shorter, and then one request is enough."""
STRANGERS = Bounds(header_bytes=8_000_000, tensors=50_000)
"""Forty times the longest header of a published mixture of experts, whose files have a few thousand tensors each."""

Fetch = Callable[[int, int], bytes]
"""Returns the bytes of a file from a first one up to, not including, a last one; fewer where the file ends."""


def read_header(file: RepoFile, fetch: Fetch) -> dict[str, HeaderEntry]:
    """Return every tensor of a file by name; no weight is read.

    Raises:
        DamagedHeaderError: the file is empty, cut off or a pointer of git-lfs, its header is damaged, or has more bytes
            or tensors than are read for a stranger.
    """
    first = fetch(0, min(FIRST_BYTES, file.size_bytes)) if file.size_bytes else b""
    length = header_length(first[:PREFIX_BYTES], file.size_bytes, file=file.path, bounds=STRANGERS)
    end = PREFIX_BYTES + length
    text = first[PREFIX_BYTES:end]
    if len(first) < end:
        text += fetch(len(first), end)
    if len(text) < length:
        raise DamagedHeaderError(f"{file.path}: its header is cut off")
    return parse_header(text, file.size_bytes, file=file.path, bounds=STRANGERS)
