"""Ways to damage an artifact on disk, and what every export reads of it."""

import json
import struct

from srr_core.formats.artifact import open_artifact
from srr_core.verification.reload import check_complete


def read_everything(directory):
    """What every export does before it writes."""
    artifact = open_artifact(directory)
    check_complete(artifact)
    for name in artifact.plain_names():
        artifact.weights[name]
    for module in artifact.module_names():
        artifact.read_layer(module)


def edit_header(file, change):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = change(data[8 : 8 + length].decode())
    file.write_bytes(struct.pack("<Q", len(text.encode())) + text.encode() + data[8 + length :])


def edit_json(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))
