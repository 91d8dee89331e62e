"""Loaded by every Python process of the installation: writes down each layer that the core makes durable.

An audit hook sees the rename by which a layer's record appears, whoever computed it and whatever was told about it.
"""

import os
import re
import sys
import time

_RECORD = re.compile(r"/(job_[0-9a-z]{26})/.*\.partial/layers/(\d+)\.json$")
_JOURNAL = os.environ.get("SRR_CHAOS_JOURNAL")


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event != "os.rename":
        return
    found = _RECORD.search(os.fsdecode(arguments[1]))  # type: ignore[arg-type]
    if found is None:
        return
    line = f"{time.time():.3f} {os.getpid()} {found[1]} {int(found[2])}\n"
    journal = os.open(str(_JOURNAL), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(journal, line.encode())  # one short write to an append-only file is whole or absent
    finally:
        os.close(journal)


if _JOURNAL:
    sys.addaudithook(_note)
