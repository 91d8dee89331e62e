"""One peer: its environment is made, its program is run there, and what it answers is read."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.environments import PeerError, environment, pinned, ran

RUN_SECONDS = 4 * 3600.0
"""A peer that hangs ends here; the slowest one needs minutes on an idle core."""


@dataclass(frozen=True)
class Peer:
    """A row of the table.

    Attributes:
        title: What it is called, with its version.
        pins: Packages in this project's own versions.
        requirements: What pip installs next to them.
        program: Runs in the environment with the path of a task, see `programs/peer_task.py`.
        classes: Bits of the weights -> settings, the best of its own that fit into the class; a class that is not here
            is one it cannot be in.
        is_calibrated: Whether it looks at text; without, one run stands for every text.
    """

    title: str
    pins: tuple[str, ...]
    requirements: tuple[str, ...]
    program: Path
    classes: Mapping[int, Mapping[str, object]]
    is_calibrated: bool = True


@dataclass(frozen=True)
class Answer:
    """What a peer leaves: the folder of its dense model, total bits per weight, and seconds of its run."""

    folder: Path
    bits: float
    seconds: float


def quantized(
    peer: Peer,
    bits: int,
    *,
    source: Path,
    layers: list[str],
    windows: list[list[int]],
    environments: Path,
    output: Path,
) -> Answer:
    """Run a peer on a model.

    Args:
        layers: Names of the modules to quantize, these and no other.
        windows: Token ids to calibrate on.
        output: Where the dense model is written; not there yet.
    Raises:
        PeerError: it has no settings for the class, cannot be installed, or fails.
    """
    if bits not in peer.classes:
        raise PeerError(f"it has no {bits}-bit integers")
    name = peer.program.stem.removesuffix("_peer")
    python = environment(environments, name, [*pinned(peer.pins), *peer.requirements])
    task = {
        "model": str(source.resolve()),
        "output": str(output.resolve()),
        "layers": layers,
        "windows": windows,
        "settings": dict(peer.classes[bits]),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.json"
        file.write_text(json.dumps(task))
        ran([str(python), str(peer.program), str(file)], seconds=RUN_SECONDS)
    try:
        answer = json.loads((output / "peer.json").read_text())
        return Answer(output, float(answer["bits"]), float(answer["seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PeerError(f"its answer cannot be read: {type(error).__name__}") from error
