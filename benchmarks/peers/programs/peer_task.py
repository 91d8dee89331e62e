"""What a peer is asked for and how it answers; the programs in this folder run in environments of their own.

They import nothing of this project: the task comes as a JSON file, the answer is a folder with the dense model that the
peer's codes stand for, and `peer.json` with the bits that the peer stores for them.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH_SIZE = 8


@dataclass(frozen=True)
class Dense:
    """One layer as its codes stand for it, and the bits of codes, scales and zero points together."""

    weight: Tensor
    bits: float


class PeerTask:
    """The task that the command line names.

    Attributes:
        layers: Names of the modules to quantize, these and no other.
        windows: Token ids to calibrate on, (sequences, length).
        settings: What the class of bits asks of this peer.
    """

    def __init__(self) -> None:
        given: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
        self.layers: list[str] = given["layers"]
        self.windows = torch.tensor(given["windows"], dtype=torch.int64)
        self.settings: dict[str, Any] = given["settings"]
        self._source, self._output = given["model"], Path(given["output"])
        self._began = time.perf_counter()
        torch.manual_seed(0)

    def model(self) -> torch.nn.Module:
        """Return the source in float32, which holds what it stores without loss."""
        loaded = AutoModelForCausalLM.from_pretrained(self._source, dtype=torch.float32, local_files_only=True)
        return loaded.eval()

    def tokenizer(self) -> Any:
        """Return the tokenizer of the source."""
        return AutoTokenizer.from_pretrained(self._source, local_files_only=True)

    def batches(self) -> list[Tensor]:
        """Return the windows in order, a few at a time."""
        return list(self.windows.split(BATCH_SIZE))

    def dividing(self, width: int) -> int:
        """Return the group size, halved until it divides a row: not every peer can leave its last group short."""
        group_size: int = self.settings["group_size"]
        while width % group_size:
            group_size //= 2
        return group_size

    def finish(self, dense: Mapping[str, Dense], around: torch.nn.Module | None = None) -> None:
        """Write the answer: the source with these weights in it.

        Args:
            around: Where everything else is taken from, of a peer that scales norms; else the source.
        Raises:
            ValueError: the layers are not those of the task.
        """
        seconds = time.perf_counter() - self._began
        if set(dense) != set(self.layers):
            odd = sorted(set(dense) ^ set(self.layers))
            raise ValueError(f"{len(odd)} layers are quantized that should not be, or not that should: {odd[0]} ...")
        model = self.model()
        with torch.no_grad():
            for name, layer in dense.items():
                model.get_submodule(name).weight.copy_(layer.weight.float())
            if around is not None:
                theirs = dict(around.named_parameters())
                for name, parameter in model.named_parameters():
                    if name.rpartition(".")[0] not in dense:
                        parameter.copy_(theirs[name])
        model.save_pretrained(self._output)
        self.tokenizer().save_pretrained(self._output)
        weights = sum(layer.weight.numel() for layer in dense.values())
        answer = {"bits": sum(layer.bits for layer in dense.values()) / weights, "seconds": seconds}
        (self._output / "peer.json").write_text(json.dumps(answer))
