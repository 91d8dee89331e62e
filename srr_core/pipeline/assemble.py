"""From finished layers to the files of an artifact, one tensor in memory at a time."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from srr_core.checkpoint.artifact_names import BARE, PATHS, STACKS
from srr_core.checkpoint.carried_files import copy_carried
from srr_core.checkpoint.derived import DerivedEntry
from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import ShardPlan, copy_tensors, write_json, write_tensors
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterTask, adapter_config
from srr_core.formats.expert_factors import fuse_factors
from srr_core.formats.stored_forms import with_entries
from srr_core.models.architecture import Architecture
from srr_core.pipeline.naming import mixture_parts, renamed_paths, stacks
from srr_core.pipeline.plan import RunPlan
from srr_core.pipeline.work_folder import WorkFolder

MADE_FOLDER = "made"


def assemble(plan: RunPlan, work: WorkFolder) -> int:
    """Write the artifact's folder from finished layers and kept tensors. Returns the bytes of all weights.

    Raises:
        StorageError: the disk is full.
    """
    base: dict[str, dict[str, TensorEntry]] = {}
    adapter: dict[str, TensorEntry] = {}
    modules = []
    for index, layer in enumerate(plan.layers.layers):
        found = work.finished(index, layer.name)
        if found is None:
            continue
        modules.append(layer.name)
        own = base.setdefault(layer.tensor, {})  # of a stack, all its matrices
        own |= {name: found.tensors[name] for name in found.record.base_tensors}
        adapter |= {name: found.tensors[name] for name in found.record.adapter_tensors}
    shards = ShardPlan()
    for tensor, entry in plan.weights.entries.items():
        if tensor in base:
            for name, place in base[tensor].items():
                shards.add(name, place)
        else:
            lies = _made(plan, work, tensor) if isinstance(entry, DerivedEntry) else entry
            shards.add(plan.layers.stored_names[tensor], lies)
    total = shards.write(work.artifact)
    if adapter:
        total += _write_adapter(plan, work.artifact / ADAPTER_WEIGHTS, adapter)
        write_json(work.artifact / ADAPTER_CONFIG, _adapter_config(plan, modules))
    write_json(work.artifact / "config.json", _config(plan, modules))
    copy_carried(plan.source, work.artifact)
    return total


def _made(plan: RunPlan, work: WorkFolder, tensor: str) -> TensorEntry:
    """Return where a tensor lies that no file of the source holds as such: it is made, and waits in the work folder."""
    folder = work.path / MADE_FOLDER
    folder.mkdir(exist_ok=True)
    file = folder / f"{hashlib.sha256(tensor.encode()).hexdigest()}.safetensors"
    write_tensors(file, {tensor: plan.weights[tensor]})
    return read_header(file)[tensor]


def _config(plan: RunPlan, modules: list[str]) -> dict[str, object]:
    paths = {layer.name: layer.module for layer in plan.layers.layers}
    compressed = {paths[name] for name in modules}
    ignore = [
        name
        for name, module in plan.architecture.model.named_modules()
        if isinstance(module, nn.Linear) and name not in compressed
    ]
    config = read_json(plan.source / "config.json")
    config.pop("transformers_weights", None)  # of the source's files
    config.pop("auto_map", None)  # a stock class was run; the code it names is not carried over
    config["quantization_config"] = with_entries(
        plan.layout.quantization_config(
            plan.recipe.model_copy(update={"rank": plan.rank}), ignore=ignore, modules=modules
        ),
        {
            BARE: sorted(plan.targets.bare & set(modules)) if plan.rank else [],
            PATHS: renamed_paths(plan.layers),
            STACKS: stacks(plan.layers),
        },
    )
    return config


def _write_adapter(plan: RunPlan, file: Path, adapter: Mapping[str, TensorEntry]) -> int:
    if all(layer.expert is None for layer in plan.layers.layers):
        return copy_tensors(file, adapter)
    # The factors of experts go into one tensor per module, so the adapter is in memory for a moment.
    reader = CheckpointReader(file.parent, entries=adapter)
    fused = dict(fuse_factors(adapter, reader.__getitem__, mixture_parts(plan.layers)))
    write_tensors(file, fused, metadata={"format": "pt"})
    return sum(tensor.nbytes for tensor in fused.values())


def _task(architecture: Architecture) -> AdapterTask:
    if architecture.is_encoder_decoder and architecture.has_perplexity:
        return "SEQ_2_SEQ_LM"
    return "CAUSAL_LM" if architecture.is_causal_lm else "FEATURE_EXTRACTION"


def _adapter_config(plan: RunPlan, modules: list[str]) -> dict[str, object]:
    paths = {layer.name: layer.module for layer in plan.layers.layers}
    every = [name for name, _ in plan.architecture.model.named_modules() if name]
    return adapter_config(
        rank=plan.rank,
        **plan.targets.entries({name: paths[name] for name in modules}, every),
        base_model=plan.artifact_id,
        experts=[part for name, part in mixture_parts(plan.layers).items() if name not in plan.targets.bare],
        task=_task(plan.architecture),
    )
