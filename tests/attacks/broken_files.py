"""Faults for the files of a model: documents with strange values in strange places, headers, and bytes.

Seeded, so that a failure comes back.
"""

import copy
import json
import random
import struct
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e300, -0.0, float("nan"), float("inf"), 0.5),
    *("", "A\0", "\ud800", "../up", "x" * 5000, "model.safetensors", "1", "[1]", [], {}, [[]], [None], {"": None}),
    *([1] * 3000, {"a": {"a": {"a": {}}}}, json.loads("[" * 90 + "]" * 90), {str(n): n for n in range(500)}),
)


def broken_file(name: str, sound: bytes, number: int) -> bytes:
    """Return the fault of this number of a file; the same whenever it is asked for."""
    change = broken_weights if name.endswith(".safetensors") else broken
    return change(sound, random.Random(f"{name} {number}"))


def broken(content: bytes, chance: random.Random) -> bytes:
    """Return a file with one to three faults, of its document where it is one, or of its bytes."""
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if document is None or chance.random() < 0.2:
        return _broken_bytes(content, chance)
    for _ in range(chance.randint(1, 3)):
        document = _broken_document(document, chance)
    return json.dumps(document).encode()


def broken_weights(content: bytes, chance: random.Random) -> bytes:
    """Return weights whose header has faults, under a length that fits or not."""
    (length,) = struct.unpack("<Q", content[:8])
    header, rest = broken(content[8 : 8 + length], chance), content[8 + length :]
    said = chance.choice([len(header)] * 4 + [0, 1, 2**62, 2**64 - 1, len(header) + 1])
    return struct.pack("<Q", said) + header + chance.choice([rest, rest, rest[:-1], b"", rest * 2])


def _broken_bytes(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) or 1)
    return chance.choice(
        [
            content[:place],
            content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :],
            content[:place] + b"[" * 20_000 + content[place:],
            content[:place] + content,
            b"",
            b"\xff\xfe" + content,
        ]
    )


def _broken_document(document: Any, chance: random.Random) -> Any:
    changed = copy.deepcopy(document)
    paths = list(_paths(changed))
    if not paths:
        return chance.choice(VALUES)
    path = chance.choice(paths)
    parent = changed
    for step in path[:-1]:
        parent = parent[step]
    what = chance.random()
    if what < 0.15:
        del parent[path[-1]]
    elif what < 0.25 and isinstance(parent, dict):
        parent[chance.choice(["", "A\0", "\ud800", "../up", "auto_map", "__class__"])] = parent.pop(path[-1])
    else:
        parent[path[-1]] = copy.deepcopy(chance.choice(VALUES))
    return changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if len(path) < 6:
            yield (*path, key)
            yield from _paths(inner, (*path, key))
