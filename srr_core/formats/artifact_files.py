"""The files of an artifact: found in a folder or on a hub, and checked by their headers before a tensor is read."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file, extract_commit_hash

from srr_core.checkpoint.artifact_names import ADAPTER_CONFIG_FILE, ADAPTER_FILE, CONFIG_FILE, factor_names
from srr_core.checkpoint.expert_names import expert_name, stacked_part
from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.checkpoint.index import INDEX_NAME, read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError
from srr_core.formats.codecs import SHAPE_SUFFIX, Codec, read_shape

Shape = tuple[int, int]

ADAPTER_DTYPE = torch.bfloat16
_GENERATION_FILE = "generation_config.json"
_SHAPE_ENDING = f".{SHAPE_SUFFIX}"
_AMBIGUOUS_SUFFIX = "weight"
"""Our own layout's packed tensor has the name of every other weight, so it cannot be told from its name."""
_ADAPTER_DEFAULTS: Mapping[str, object] = {
    "peft_type": "LORA",
    "use_rslora": False,
    "use_dora": False,
    "fan_in_fan_out": False,
    "bias": "none",
    "init_lora_weights": True,
    "modules_to_save": None,
}
"""Entries of adapter_config.json under which PEFT adds L·R and nothing else, scaled by lora_alpha / r."""


def locate(source: str, hub: Mapping[str, Any]) -> Path:
    """Return the folder of an artifact; files of a repository are downloaded first, all of one commit.

    Loading from the folder keeps transformers from following `base_model_name_or_path` to another repository.

    Raises:
        CheckpointError: no such folder or repository, or a file of it is missing.
    """
    if Path(source).is_dir():
        return Path(source)
    config = _download(source, CONFIG_FILE, hub)
    options = {**hub, "revision": extract_commit_hash(str(config), None) or hub.get("revision")}
    weight_map = read_json(_download(source, INDEX_NAME, options)).get("weight_map")
    shards = {str(shard) for shard in weight_map.values()} if isinstance(weight_map, dict) else set()
    for shard in sorted(shards):
        if Path(shard).name != shard:
            raise CheckpointError(f"{INDEX_NAME}: names {shard!r}, which is not a file of this repository")
        _download(source, shard, options)
    for optional in (ADAPTER_CONFIG_FILE, ADAPTER_FILE, _GENERATION_FILE):
        cached_file(source, optional, _raise_exceptions_for_missing_entries=False, **options)
    return config.parent


def read_configuration(folder: Path) -> Any:
    """Return the configuration of a model as transformers holds it; code of the folder is never run.

    Raises:
        CheckpointError: config.json is missing, damaged, or of no model that transformers knows.
    """
    read_json(folder / CONFIG_FILE)
    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a stranger's configuration fails in whatever way its class likes
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{CONFIG_FILE}: transformers cannot use it: {reason}") from error


def model_class(config: Mapping[str, Any]) -> Any:
    """Return the transformers class that `architectures` of a config.json names.

    Raises:
        CheckpointError: none is named, or transformers does not have it.
    """
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise CheckpointError(f"{CONFIG_FILE}: names the architecture {name!r}, unknown to transformers")
    return found


def empty_model(config: Mapping[str, Any], configuration: Any, *, num_tensors: int) -> PreTrainedModel:
    """Return the dense model of a configuration on the meta device, without weights.

    Args:
        config: config.json, for the name of the class.
        configuration: The same as transformers holds it, without quantization.
        num_tensors: Of the checkpoint; a configuration with more blocks would take memory and time for nothing.
    Raises:
        CheckpointError: the class cannot be built from these numbers.
    """
    kind = model_class(config)
    depth = getattr(configuration.get_text_config(), "num_hidden_layers", None)
    if isinstance(depth, int) and depth > num_tensors:
        raise CheckpointError(f"{CONFIG_FILE}: num_hidden_layers is {depth}, but the files hold {num_tensors} tensors")
    try:
        with torch.device("meta"):
            model: PreTrainedModel = kind(configuration)
    except Exception as error:  # a stranger's numbers fail in whatever way the class likes
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{CONFIG_FILE}: {kind.__name__} cannot be built from it: {reason}") from error
    return model


def check_inside(source: str, files: Iterable[Path]) -> None:
    """Check that every file transformers is about to read is one of the folder the user named.

    Raises:
        CheckpointError: the index or the configuration leads elsewhere.
    """
    folder = Path(source)
    for file in files:
        if ".." in file.parts or (folder.is_dir() and not file.is_relative_to(folder)):
            raise CheckpointError(f"{INDEX_NAME}: names {str(file)!r}, which is not a file of this folder")


def check_packed_names(entries: Mapping[str, TensorEntry], codec: Codec) -> None:
    """Check that the tensors of packed layers belong together.

    Raises:
        CheckpointError: a part without its layer, a `weight_shape` that is none, or a dense weight beside a packed one.
    """
    suffixes = [suffix for suffix in codec.declared((1, 1)) if suffix != _AMBIGUOUS_SUFFIX]
    is_split = len(suffixes) == len(codec.declared((1, 1)))
    for name, entry in entries.items():
        module, _, suffix = name.rpartition(".")
        if suffix in suffixes and f"{module}{_SHAPE_ENDING}" not in entries:
            raise CheckpointError(f"{entry.file.name}: tensor {module + _SHAPE_ENDING!r} is missing beside {name!r}")
        if suffix != SHAPE_SUFFIX:
            continue
        if (entry.dtype, entry.shape) != (torch.int64, (2,)):
            raise CheckpointError(
                f"{entry.file.name}: tensor {name!r} is {entry.dtype} {list(entry.shape)}, not two int64 numbers"
            )
        dense = entries.get(f"{module}.weight")
        if is_split and dense is not None:
            raise CheckpointError(f"{dense.file.name}: dense tensor '{module}.weight' lies beside its packed form")


def packed_modules(entries: Iterable[str]) -> list[str]:
    """Return the modules of a checkpoint whose weights are packed."""
    return [name.removesuffix(_SHAPE_ENDING) for name in entries if name.endswith(_SHAPE_ENDING)]


def is_expert(module_name: str) -> bool:
    """Whether a packed weight is of one expert, which the model has no module of its own for."""
    return expert_name(module_name) is not None or stacked_part(module_name) is not None


def check_layer(module_name: str, shape: Shape, codec: Codec, entries: Mapping[str, TensorEntry]) -> None:
    """Check that the files hold what a layer of this (out, in) shape is written as, before any memory is taken.

    Raises:
        CheckpointError: a tensor is missing or has another dtype or shape; the message names file and tensor.
    """
    for suffix, declared in codec.declared(shape).items():
        name = f"{module_name}.{suffix}"
        entry = entries.get(name)
        if entry is None:
            raise CheckpointError(f"tensor {name!r} is in no file of the checkpoint")
        if (entry.dtype, entry.shape) != (declared.dtype, declared.shape):
            raise CheckpointError(
                f"{entry.file.name}: tensor {name!r} is {entry.dtype} {list(entry.shape)}, "
                f"a layer of {shape[0]} x {shape[1]} needs {declared.dtype} {list(declared.shape)}"
            )


def check_layers(weights: CheckpointReader, codec_of: Callable[[str], Codec]) -> dict[str, Shape]:
    """Return (out, in) of every packed layer, after checking the headers of all its tensors.

    Args:
        codec_of: The codec a module was written with; that of most of them for the empty name.
    Raises:
        CheckpointError: a tensor is missing, of another dtype or shape, or has no layer.
    """
    check_packed_names(weights.entries, codec_of(""))
    shapes = {module: read_shape(module, weights.__getitem__) for module in packed_modules(weights)}
    for module, shape in shapes.items():
        check_layer(module, shape, codec_of(module), weights.entries)
    return shapes


def adapter_entries(
    folder: Path, rank: int, shapes: Mapping[str, Shape], *, paths: Mapping[str, str]
) -> dict[str, TensorEntry]:
    """Return the tensors of the adapter that belongs to an artifact; none where its rank is 0.

    Args:
        shapes: (out, in) of the packed layers.
        paths: In the model, of layers that the files name otherwise.
    Raises:
        CheckpointError: an adapter that is missing, unwanted, damaged, of other layers, shapes or dtypes, or that
            PEFT would not add as L·R.
    """
    file, config = folder / ADAPTER_FILE, folder / ADAPTER_CONFIG_FILE
    if rank == 0:
        for unwanted in (file, config):
            if unwanted.exists():
                raise CheckpointError(f"{unwanted.name}: {CONFIG_FILE} says there is no adapter, but the file exists")
        return {}
    if not file.exists():
        raise CheckpointError(f"{ADAPTER_FILE} is missing: without it the model would be Q alone, not Q + L·R")
    plain = {module: shape for module, shape in shapes.items() if not is_expert(module)}
    _check_adapter_config(read_json(config), rank, [paths.get(module, module) for module in plain])
    entries = read_header(file)
    wanted = {name: size for module, shape in plain.items() for name, size in _factor_shapes(module, shape, rank)}
    for name, size in wanted.items():
        if name not in entries:
            raise CheckpointError(f"{ADAPTER_FILE}: tensor {name!r} is missing")
        if entries[name].shape != size:
            raise CheckpointError(
                f"{ADAPTER_FILE}: tensor {name!r} has shape {list(entries[name].shape)}, its layer needs {list(size)}"
            )
    for name, entry in entries.items():
        if entry.dtype != ADAPTER_DTYPE:
            raise CheckpointError(f"{ADAPTER_FILE}: tensor {name!r} has dtype {entry.dtype}, not {ADAPTER_DTYPE}")
    return entries


def _factor_shapes(module_name: str, shape: Shape, rank: int) -> tuple[tuple[str, Shape], tuple[str, Shape]]:
    right, left = factor_names(module_name)
    return (right, (rank, shape[1])), (left, (shape[0], rank))


def _check_adapter_config(stated: Mapping[str, Any], rank: int, modules: Iterable[str]) -> None:
    if (stated.get("r"), stated.get("lora_alpha")) != (rank, rank):
        raise CheckpointError(
            f"{ADAPTER_CONFIG_FILE}: r and lora_alpha are {stated.get('r')!r} and {stated.get('lora_alpha')!r}, "
            f"{CONFIG_FILE} says {rank}"
        )
    for key, wanted in _ADAPTER_DEFAULTS.items():
        if stated.get(key, wanted) != wanted:
            raise CheckpointError(
                f"{ADAPTER_CONFIG_FILE}: {key} is {stated[key]!r}, but L·R is added only where it is {wanted!r}"
            )
    if (stated.get("rank_pattern") or {}) != (stated.get("alpha_pattern") or {}):
        raise CheckpointError(f"{ADAPTER_CONFIG_FILE}: rank_pattern and alpha_pattern differ, which would scale L·R")
    targets, parameters = stated.get("target_modules"), stated.get("target_parameters") or []
    if not isinstance(targets, list):
        raise CheckpointError(f"{ADAPTER_CONFIG_FILE}: target_modules is no list of modules")
    if not isinstance(parameters, list):
        raise CheckpointError(f"{ADAPTER_CONFIG_FILE}: target_parameters is no list of parameters")
    ends = (*(f".{target}.weight" for target in targets), *(f".{target}" for target in parameters))
    for module in modules:
        if not f".{module}.weight".endswith(ends):
            raise CheckpointError(f"{ADAPTER_CONFIG_FILE}: target_modules leaves {module} without its L·R")


def _download(source: str, name: str, hub: Mapping[str, Any]) -> Path:
    try:
        return Path(str(cached_file(source, name, **hub)))
    except OSError as error:
        raise CheckpointError(f"{source}: {name} cannot be read: {error}") from error
