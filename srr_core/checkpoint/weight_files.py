"""Which files of a model are its weights: the one answer, told from names alone, for a folder and for a hub.

The order is that of transformers (5.23): the file that config.json names, else `model.safetensors`, else the files
that `model.safetensors.index.json` names. Whatever else lies there, such as left-over shards or the consolidated
weights of another library, is not read.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from srr_core.errors import CheckpointError

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
INDEX_SUFFIX = ".safetensors.index.json"
ADAPTER_CONFIG_NAME = "adapter_config.json"

_OTHERS = (
    (
        re.compile(r"model\.([^/]+\.safetensors(\.index\.json)?|safetensors\.index\.[^/]+\.json)"),
        "a variant, which is loaded only when it is asked for",
    ),
    (re.compile(r"adapter_model\.(safetensors|bin)"), "an adapter, which is no model without its base"),
    (re.compile(r".*\.gguf"), "GGUF"),
    (re.compile(r"(pytorch_model.*\.bin.*|.*\.(pt|pth|ckpt))"), "a pickle, and only safetensors checkpoints are read"),
    (re.compile(r".+/[^/]+\.safetensors"), "in a folder below, where stock loaders look only if an index names it"),
    (re.compile(r".*\.safetensors"), "of another library"),
)
"""Names that weights have where stock loaders do not look, and what is said of them."""


def first_file(names: Iterable[str], config: Mapping[str, Any] | None = None, *, may_have_adapter: bool = False) -> str:
    """Return the file to begin with: the weights themselves, or, when its name ends with `INDEX_SUFFIX`, their index.

    Args:
        names: Of all files, relative to the folder of config.json.
        config: What config.json holds.
        may_have_adapter: For artifacts of this package, whose L·R is an adapter beside the weights.
    Raises:
        CheckpointError: stock loaders find no weights, or add an adapter to them; the message names the file.
    """
    present = frozenset(names)
    explicit = (config or {}).get("transformers_weights")
    found = next((name for name in (SINGLE_NAME, INDEX_NAME) if name in present), None)
    if found is None and explicit is None:
        raise CheckpointError(f"no {SINGLE_NAME} or {INDEX_NAME}: {_described(present)}")
    if ADAPTER_CONFIG_NAME in present and not may_have_adapter:
        raise CheckpointError(
            f"{ADAPTER_CONFIG_NAME} lies beside the weights: stock loaders add its adapter to them, so they alone are "
            "not the model; merge the adapter (merge_and_unload, save_pretrained) or take its files away"
        )
    return _explicit(explicit, present) if found is None or explicit is not None else found


def named_files(index_name: str, index: Mapping[str, Any], names: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the weight files that an index names, in the order in which they are read.

    Args:
        index: The content of the index file.
        names: Of all files; without them their presence is not checked.
    Raises:
        CheckpointError: not an index, or a file that is missing, elsewhere or no safetensors file.
    """
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, Mapping) or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError(f"{index_name}: has no weight_map from tensor names to file names")
    files = tuple(sorted(set(weight_map.values())))
    present = None if names is None else frozenset(names)
    for file in files:
        if not _is_inside(file) or not file.endswith(".safetensors"):
            raise CheckpointError(f"{index_name}: names {file!r}, which is not a safetensors file of this folder")
        if present is not None and file not in present:
            raise CheckpointError(f"{index_name}: names {file}, which is missing")
    return files


def _explicit(value: object, present: frozenset[str]) -> str:
    if not isinstance(value, str) or not _is_inside(value) or not value.endswith((".safetensors", INDEX_SUFFIX)):
        raise CheckpointError(
            f"config.json: transformers_weights is {value!r}, which names no safetensors file or index"
        )
    if value not in present:
        raise CheckpointError(f"config.json: transformers_weights names {value}, which is missing")
    return value


def _described(present: frozenset[str]) -> str:
    for pattern, what in _OTHERS:
        found = sorted(name for name in present if pattern.fullmatch(name))
        if found:
            more = f" and {len(found) - 1} more like it" if len(found) > 1 else ""
            verb = "are" if more else "is"
            return f"{found[0]}{more} {verb} {what}; save the model with save_pretrained to get {SINGLE_NAME}"
    return "there are no weights at all; save the model with save_pretrained"


def _is_inside(file: str) -> bool:
    parts = file.split("/")
    return "\\" not in file and not any(part in {"", ".", ".."} for part in parts)
