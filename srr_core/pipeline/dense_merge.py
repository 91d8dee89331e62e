"""A fine-tuned 16-bit model with W + L·R as one matrix per layer."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from srr_core.checkpoint.header import read_header
from srr_core.checkpoint.index import INDEX_NAME, read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import write_json
from srr_core.exporters.exporter import write_shards
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_names, read_adapter
from srr_core.formats.artifact import CONFIG_NAME
from srr_core.formats.expert_factors import ExpertPart
from srr_core.models.layers import Layer
from srr_core.tuners.folders import link_files, mixture_parts


def merge_dense(tuned: Path, destination: Path, layers: Sequence[Layer], *, dtype: torch.dtype) -> None:
    """Write W + L·R, summed in float32 and rounded once.

    Args:
        tuned: A 16-bit checkpoint with a trained adapter beside it.
        destination: An empty folder.
        layers: Those the adapter corrects.
    Raises:
        CheckpointError: the adapter is damaged.
        StorageError: the disk is full.
    """
    weights = CheckpointReader(tuned, may_have_adapter=True)
    parts = mixture_parts(layers)
    adapter = CheckpointReader(tuned, entries=read_header(tuned / ADAPTER_WEIGHTS))
    rank = int(read_json(tuned / ADAPTER_CONFIG)["r"])
    by_tensor = {layer.tensor: layer for layer in layers}
    write_shards(destination, _merged(weights, adapter, by_tensor, parts, rank=rank, dtype=dtype))
    excluded = {CONFIG_NAME, INDEX_NAME, ADAPTER_CONFIG}
    others = (file for file in sorted(tuned.iterdir()) if file.suffix != ".safetensors" and file.name not in excluded)
    link_files(others, destination)
    config = {key: value for key, value in read_json(tuned / CONFIG_NAME).items() if key != "torch_dtype"}
    write_json(destination / CONFIG_NAME, {**config, "dtype": str(dtype).removeprefix("torch.")})


def _merged(
    weights: CheckpointReader,
    adapter: CheckpointReader,
    layers: Mapping[str, Layer],
    parts: Mapping[str, ExpertPart],
    *,
    rank: int,
    dtype: torch.dtype,
) -> Iterator[tuple[str, Tensor]]:
    for name in weights:
        tensor = weights[name]
        layer = layers.get(name)
        part = None if layer is None else parts.get(layer.name)
        # PEFT attaches nothing to some layers, and these stay as they were.
        if layer is not None and adapter_names(layer.name, part)[0] in adapter:
            left, right = read_adapter(layer.name, adapter.__getitem__, rank=rank, shape=layer.shape, part=part)
            correction = left.to(torch.float32) @ right.to(torch.float32)
            tensor = tensor.to(torch.float32) + (correction.mT if layer.is_transposed else correction)
        yield name, tensor.to(dtype) if tensor.is_floating_point() else tensor
