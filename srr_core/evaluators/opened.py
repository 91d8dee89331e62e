"""A model folder as evaluators meet it: a source or one of our artifacts, run block by block or loaded whole."""

import hashlib
import json
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from srr_core.calibration.dataset import load_tokenizer
from srr_core.checkpoint.artifact_names import CONFIG_FILE
from srr_core.checkpoint.header import TensorEntry
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError
from srr_core.formats.artifact import Artifact, open_artifact
from srr_core.formats.artifact_files import check_layers
from srr_core.formats.stored_forms import read_marker
from srr_core.models.architecture import Architecture, check_supported, silent_loading
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import plan_layers
from srr_core.runtime import load as load_artifact
from srr_core.runtime.plain_tensors import require_complete
from srr_core.verification.dense_view import DenseView
from srr_core.verification.reload import transposed_modules


class OpenedModel:
    """One folder. Opening reads config.json alone; weights are read by what is asked of it.

    Args:
        directory: A checkpoint with safetensors weights, or an artifact of ours.
        revision: The commit it is of, if it has one.
    Raises:
        CheckpointError: config.json is missing or damaged.
        UnsupportedModelError: the model is of no known class, or quantized by others.
    """

    def __init__(self, directory: Path, *, revision: str | None = None) -> None:
        self.directory = directory
        self.revision = revision
        self._config = read_json(directory / CONFIG_FILE)
        self.is_artifact = _is_ours(self._config)
        self.class_name = check_supported(self._dense_config())

    def architecture(self) -> Architecture:
        """Return a fresh model on the meta device, of the class the weights were made for, not quantized."""
        if not self.is_artifact:
            return Architecture(self.directory)
        with tempfile.TemporaryDirectory(prefix="srr-config-") as folder:
            (Path(folder) / CONFIG_FILE).write_text(json.dumps(self._dense_config()), encoding="utf-8")
            return Architecture(Path(folder))

    def blockwise(self, device: torch.device) -> BlockwiseModel:
        """Return the model to be run one block at a time in float32.

        Raises:
            CheckpointError: a tensor is missing or damaged.
        """
        architecture = self.architecture()
        if not self.is_artifact:
            weights = CheckpointReader(self.directory)
            require_complete(architecture.model, weights.entries)
            plan = plan_layers(architecture, weights.entries)
            return BlockwiseModel(architecture, weights, plan, device)
        artifact = open_artifact(self.directory)
        transposed = transposed_modules(artifact)
        plan = plan_layers(architecture, _dense_entries(artifact, transposed))
        return BlockwiseModel(architecture, DenseView(artifact, transposed=transposed), plan, device)

    def load(self, device: torch.device, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
        """Return the whole model: packed, with its L·R attached, or as it is stored.

        Args:
            dtype: Of what is not packed; what the checkpoint says by default.
        Raises:
            CheckpointError: it cannot be loaded.
        """
        if self.is_artifact:
            return load_artifact(self.directory, device=device, dtype=dtype)
        # transformers fills a place without a tensor with random numbers, and measures would be about these.
        require_complete(Architecture(self.directory).model, CheckpointReader(self.directory).entries)
        kind: Any = getattr(transformers, self.class_name)
        try:
            with silent_loading():
                model: PreTrainedModel = kind.from_pretrained(
                    self.directory,
                    dtype=dtype or "auto",
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=False,
                )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise CheckpointError(f"{self.directory.name}: transformers cannot load it: {reason}") from error
        model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        torch.nn.Module.to(model, device)  # transformers' own hides its signature
        return model

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the folder. Raises CheckpointError."""
        return load_tokenizer(self.directory)

    @cached_property
    def digest(self) -> str:
        """What stands for the content in caches: the commit, or else the configuration, sizes and times of files."""
        if self.revision is not None:
            return self.revision
        digest = hashlib.sha256(json.dumps(self._config, sort_keys=True).encode())
        for file in sorted(self.directory.iterdir()):
            if file.suffix in {".safetensors", ".json", ".model"} and file.is_file():
                stat = file.stat()
                digest.update(repr((file.name, stat.st_size, stat.st_mtime_ns)).encode())
        return digest.hexdigest()

    def weight_bytes(self) -> int:
        """Return what the weight files take on disk, an adapter beside them counted."""
        return sum(file.stat().st_size for file in self.directory.glob("*.safetensors"))

    def _dense_config(self) -> dict[str, Any]:
        return {
            key: value for key, value in self._config.items() if key != "quantization_config" or not self.is_artifact
        }


def _is_ours(config: dict[str, Any]) -> bool:
    written = config.get("quantization_config")
    if not isinstance(written, dict):
        return False
    try:
        read_marker(written, file=CONFIG_FILE)
    except CheckpointError:
        return False
    return True


def _dense_entries(artifact: Artifact, transposed: frozenset[str]) -> dict[str, TensorEntry]:
    # Only names, shapes and that they are floats matter to a plan.
    entries = {name: artifact.weights.entries[name] for name in artifact.plain_names()}
    for module, (rows, columns) in check_layers(artifact.weights, artifact.codec_of).items():
        shape = (columns, rows) if module in transposed else (rows, columns)
        entries[f"{module}.weight"] = TensorEntry(Path(), torch.float32, shape, 0, 4 * rows * columns)
    return entries
