"""Coverage-guided fuzzing of the reader with atheris, run by test_fuzz.py in a process of its own.

    python tests/srr_core/checkpoint/fuzz_target.py FOLDER CORPUS [libFuzzer options]

The first byte of an input chooses what the others become: a single safetensors file, a shard behind an index, a header
whose length is filled in (what follows its first NUL is data), or the index itself. Anything but CheckpointError ends
the run, and so does a file opened outside the folder.
"""

import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["srr_core.checkpoint"], enable_loader_override=False):
    from srr_core.checkpoint.index import INDEX_NAME, SINGLE_NAME
    from srr_core.checkpoint.reader import CheckpointReader

from srr_core.errors import CheckpointError

SHARD = "shard.safetensors"
VALID = b'\x38\x00\x00\x00\x00\x00\x00\x00{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   \x00'
SINGLE, FRAMED, INDEX_ITSELF = 0, 2, 3
INDEX = b'{"weight_map": {"a": "shard.safetensors"}}'


class OutsideError(Exception):
    """A file of another folder was opened."""


def one_input(data: bytes, folder: Path) -> None:
    """Lay the input down as a file of a checkpoint and read everything it is said to hold."""
    kind, content = data[0] // 64 if data else 0, data[1:]
    index, shard = INDEX, content
    if kind == FRAMED:
        header, _, tensors = content.partition(b"\0")
        shard = len(header).to_bytes(8, "little") + header + tensors
    elif kind == INDEX_ITSELF:
        index, shard = content, VALID
    (folder / INDEX_NAME).unlink(missing_ok=True)
    if kind == SINGLE:
        (folder / SINGLE_NAME).write_bytes(shard)
    else:
        (folder / INDEX_NAME).write_bytes(index)
        (folder / SHARD).write_bytes(shard)
    try:
        reader = CheckpointReader(folder)
        sizes = [reader[name].nbytes for name in reader]
    except CheckpointError:
        return
    if sum(sizes) > len(shard) * max(1, len(sizes)):
        raise AssertionError("more bytes were read than there are")


def main(arguments: list[str]) -> None:
    """Fuzz until the options of libFuzzer say stop."""
    folder = Path(arguments[1]).resolve()
    sys.addaudithook(lambda event, values: _watch(event, values, folder))
    atheris.Setup([arguments[0], *arguments[2:]], lambda data: one_input(data, folder))
    atheris.Fuzz()


def _watch(event: str, values: tuple[object, ...], folder: Path) -> None:
    if event == "open" and isinstance(values[0], str | os.PathLike):
        path = os.path.normpath(os.fspath(values[0]))
        if not path.startswith(f"{folder}{os.sep}"):
            raise OutsideError(path)


if __name__ == "__main__":
    main(sys.argv)
