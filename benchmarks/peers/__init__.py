"""The peers, one row each: what pip installs, the program that runs there, and what a class of bits asks of it."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.peers.peer import Peer

_PROGRAMS = Path(__file__).resolve().parent / "programs"
_BESIDE = ("torch", "transformers", "accelerate", "safetensors")
"""In our own versions wherever a peer takes them."""
_GROUPED: Mapping[int, Mapping[str, object]] = {
    2: {"bits": 2, "group_size": 32},
    3: {"bits": 3, "group_size": 128},
    4: {"bits": 4, "group_size": 128},
}
# Scale and zero point of 16 bits each: groups of 32 would cost a whole bit and leave the class.
_WIDE_ZERO_POINTS: Mapping[int, Mapping[str, object]] = {
    2: {"bits": 2, "group_size": 64},
    3: {"bits": 3, "group_size": 128},
    4: {"bits": 4, "group_size": 128},
}

PEERS: Mapping[str, Peer] = {
    "autoround": Peer(
        title="AutoRound 0.16.1, 200 iterations",
        pins=_BESIDE,
        requirements=("auto-round==0.16.1",),
        program=_PROGRAMS / "autoround_peer.py",
        classes={bits: {**settings, "iterations": 200} for bits, settings in _GROUPED.items()},
    ),
    "hqq": Peer(
        title="HQQ 0.2.8",
        pins=_BESIDE,
        requirements=("hqq==0.2.8",),
        program=_PROGRAMS / "hqq_peer.py",
        classes=_WIDE_ZERO_POINTS,
        is_calibrated=False,
    ),
    "quanto": Peer(
        title="optimum-quanto 0.2.7",
        pins=_BESIDE,
        requirements=("optimum-quanto==0.2.7",),
        program=_PROGRAMS / "quanto_peer.py",
        classes={bits: _WIDE_ZERO_POINTS[bits] for bits in (2, 4)},
        is_calibrated=False,
    ),
    "torchao": Peer(
        title="torchao 0.18.0",
        pins=_BESIDE,
        requirements=("torchao==0.18.0",),
        program=_PROGRAMS / "torchao_peer.py",
        classes={
            bits: {**settings, "mapping": "ASYMMETRIC", "algorithm": "AFFINE"} for bits, settings in _GROUPED.items()
        },
        is_calibrated=False,
    ),
    "llmcompressor-gptq": Peer(
        title="llm-compressor 0.14.0.1, GPTQ",
        pins=("torch",),
        requirements=("llmcompressor==0.14.0.1",),
        program=_PROGRAMS / "llmcompressor_peer.py",
        classes={bits: {**settings, "method": "gptq"} for bits, settings in _GROUPED.items()},
    ),
    "llmcompressor-awq": Peer(
        title="llm-compressor 0.14.0.1, AWQ",
        pins=("torch",),
        requirements=("llmcompressor==0.14.0.1",),
        program=_PROGRAMS / "llmcompressor_peer.py",
        classes={bits: {**settings, "method": "awq"} for bits, settings in _GROUPED.items()},
    ),
}
