"""An adapter that begins at zero, on every layer a recipe compresses, as PEFT and its servers take it."""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from srr_core.checkpoint.artifact_names import BARE, PATHS
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import write_json, write_tensors
from srr_core.errors import UnsupportedModelError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_config, adapter_tensors
from srr_core.formats.artifact import CONFIG_NAME
from srr_core.formats.artifact_files import check_layers
from srr_core.formats.expert_factors import expert_parts, fuse_factors
from srr_core.formats.stored_forms import read_marker
from srr_core.runtime.integration import match_modules
from srr_core.tuners.folders import dense_layers, empty_of, is_artifact, mixture_parts
from srr_core.verification.attachment import Attached, find_targets


def write_fresh_adapter(base: Path, destination: Path, *, rank: int, seed: int, is_classifier: bool) -> dict[str, Any]:
    """Write an adapter that begins at zero; return what the artifact's configuration must say about it."""
    model = empty_of(base)
    layers, paths = _attachable(base, model)
    targets = find_targets(model, layers, rank=rank)
    parts = {name: layer.part for name, layer in layers.items() if layer.part is not None and name not in targets.bare}
    factors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        if name in targets.bare:
            continue
        rows, columns = layer.shape
        right = drawn_uniform((rank, columns), seed, name).mul_(2).sub_(1).div_(math.sqrt(columns))
        factors |= adapter_tensors(name, torch.zeros(rows, rank), right, rank=rank)
    if not factors:
        raise UnsupportedModelError(f"peft attaches an adapter to no layer of {type(model).__name__}")
    write_tensors(
        destination / ADAPTER_WEIGHTS,
        dict(fuse_factors(factors, factors.__getitem__, parts)),
        metadata={"format": "pt"},
    )
    every = [name for name, _ in model.named_modules() if name]
    entries = targets.entries({name: layer.path for name, layer in layers.items()}, every)
    config = adapter_config(
        rank=rank,
        **entries,
        base_model=None,
        experts=parts.values(),
        task="SEQ_CLS" if is_classifier else "CAUSAL_LM",
    )
    write_json(destination / ADAPTER_CONFIG, config)
    return {"rank": rank, BARE: sorted(targets.bare), PATHS: paths}


def _attachable(base: Path, model: PreTrainedModel) -> tuple[dict[str, Attached], dict[str, str]]:
    """Return what an adapter is put on, and the paths in the model of layers whose names in the files are others."""
    if not is_artifact(base):
        planned = dense_layers(base)
        found = mixture_parts(planned)
        return {layer.name: Attached(layer.module, layer.shape, found.get(layer.name)) for layer in planned}, {}
    marker = read_marker(read_json(base / CONFIG_NAME)["quantization_config"], file=CONFIG_NAME)
    shapes = check_layers(CheckpointReader(base, may_have_adapter=True), marker.codec)
    paths = {file: name for name, file in match_modules(model, shapes).items()}
    parts = expert_parts(shapes)
    layers = {name: Attached(paths.get(name, name), shape, parts.get(name)) for name, shape in shapes.items()}
    return layers, {file: name for file, name in paths.items() if file != name}


def drawn_uniform(shape: tuple[int, int], seed: int, name: str) -> Tensor:
    """Return numbers from 0 to 1 that belong to a name and a seed."""
    return torch.rand(shape, generator=generator_for(seed, name))


def generator_for(seed: int, name: str) -> torch.Generator:
    """Return the generator of a name and a seed."""
    # From the name, so that the order of modules does not matter.
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
