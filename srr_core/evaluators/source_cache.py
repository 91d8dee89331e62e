"""What a source scored, kept between runs: the same source by the same protocol is not run again.

A folder of small JSON files, one per source and protocol. Writers need no lock: a file appears by one rename, and two
writers of one name write the same.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srr_core.evaluators.dataset_folder import require_writable

Result = Mapping[str, Any]
"""JSON values by name."""


@dataclass(frozen=True)
class SourceCache:
    """A folder of results, or none."""

    folder: Path | None

    def get(self, source_digest: str, protocol: Mapping[str, Any], compute: Callable[[], Result]) -> Result:
        """Return a result, computed at most once for a source and a protocol.

        Args:
            source_digest: What stands for the content of the source.
            protocol: Everything else that the result depends on, versions and device included; as JSON.
        Raises:
            StorageError: the folder cannot be written; said before anything is computed.
        """
        if self.folder is None:
            return compute()
        require_writable(self.folder)
        key = {"source": source_digest, "protocol": protocol}
        text = json.dumps(key, sort_keys=True)
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        known = _read(file)
        # The key is compared as well, so that a file of another format or a damaged one counts as none.
        if known is not None and known.get("key") == json.loads(text) and isinstance(known.get("result"), dict):
            found: Result = known["result"]
            return found
        result = compute()
        _write(file, {"key": key, "result": result})
        return result


def digest_of(texts: Iterable[str]) -> str:
    """Return a SHA-256 of texts in order, to stand for them in a protocol."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write(file: Path, value: Mapping[str, Any]) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".result-")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    Path(name).replace(file)
