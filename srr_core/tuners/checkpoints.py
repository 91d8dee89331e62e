"""The state of a training on disk: a folder per checkpoint, complete or absent, without a pickle.

A checkpoint is an adapter as PEFT writes it, which stock tools load, beside the optimizer's state and a document of
what has happened so far. It is written aside and appears by one rename.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.optim import Optimizer

from srr_core.checkpoint.header import read_header
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import write_json, write_tensors
from srr_core.errors import CheckpointError, StorageError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.tuners.report import EvaluationRow, StepRow

OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
_NAME = re.compile(r"^step-(\d{8})$")


class TrainingState(BaseModel):
    """How far a training is, between two steps."""

    model_config = ConfigDict(extra="forbid")

    step: int = 0
    """Steps that are done."""
    rows: list[StepRow] = []
    evaluations: list[EvaluationRow] = []
    best_step: int | None = None
    """Of the best evaluation after a step."""
    without_better: int = 0
    """Evaluations since the best one."""


@dataclass
class Checkpoints:
    """The checkpoints of one training, in one folder.

    Args:
        keep: Latest ones that are kept beside the best.
        adapter_config: What adapter_config.json of each holds.
    """

    folder: Path
    keep: int
    adapter_config: Mapping[str, Any] = field(default_factory=dict)

    def path(self, step: int) -> Path:
        """Return where the checkpoint after a number of steps is."""
        return self.folder / f"step-{step:08d}"

    def latest(self) -> int | None:
        """Return the steps of the latest complete checkpoint, or None."""
        steps = self.steps()
        return steps[-1] if steps else None

    def save(self, parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, state: TrainingState) -> Path:
        """Make the state durable, then remove what is no longer needed. Raises StorageError."""
        path = self.path(state.step)
        partial = path.with_name(f".{path.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_tensors(partial / ADAPTER_WEIGHTS, dict(parameters), metadata={"format": "pt"})
            write_json(partial / ADAPTER_CONFIG, dict(self.adapter_config))
            write_tensors(partial / OPTIMIZER_FILE, _optimizer_tensors(parameters, optimizer))
            write_json(partial / STATE_FILE, state.model_dump(mode="json"))
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
        except OSError as error:
            raise StorageError(f"checkpoint {path.name} could not be written: {error.strerror or error}") from error
        for step in self.steps()[: -self.keep]:
            if step != state.best_step:
                shutil.rmtree(self.path(step), ignore_errors=True)
        return path

    def restore(self, parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, step: int) -> TrainingState:
        """Put parameters and optimizer back to a checkpoint and return its state.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another model.
        """
        path = self.path(step)
        restore_parameters(parameters, path)
        tensors = _read(path / OPTIMIZER_FILE)
        by_parameter = {parameter: name for name, parameter in parameters.items()}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                own = f"{by_parameter[parameter]}|"
                found = {name.removeprefix(own): value for name, value in tensors.items() if name.startswith(own)}
                if found:
                    device = parameter.device
                    optimizer.state[parameter] = {
                        # AdamW counts its steps on the CPU.
                        name: value if name == "step" else value.to(device)
                        for name, value in found.items()
                    }
        try:
            return TrainingState.model_validate(read_json(path / STATE_FILE))
        except ValueError as error:
            raise CheckpointError(f"{path.name}/{STATE_FILE} is damaged") from error

    def steps(self) -> list[int]:
        """Return the steps of every complete checkpoint, in order."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.match(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match is not None)


def restore_parameters(parameters: Mapping[str, nn.Parameter], checkpoint: Path) -> None:
    """Put what is trained back to a checkpoint. Raises CheckpointError."""
    tensors = _read(checkpoint / ADAPTER_WEIGHTS)
    if tensors.keys() != parameters.keys():
        name = sorted(tensors.keys() ^ parameters.keys())[0]
        raise CheckpointError(f"{checkpoint.name}/{ADAPTER_WEIGHTS}: belongs to another model: {name!r}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if tensors[name].shape != parameter.shape:
                raise CheckpointError(
                    f"{checkpoint.name}/{ADAPTER_WEIGHTS}: {name!r} has another shape than the model's"
                )
            parameter.copy_(tensors[name])


def _optimizer_tensors(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}|{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _read(file: Path) -> dict[str, Tensor]:
    entries = read_header(file)
    reader = CheckpointReader(file.parent, entries=entries)
    return {name: reader[name] for name in entries}
