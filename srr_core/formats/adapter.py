"""L·R as a PEFT LoRA adapter: lora_A is R, lora_B is L, alpha equals the rank.

One rank for the whole adapter: mixed ranks need a pattern that llama.cpp's converter gets wrong and
vLLM does not read. A layer of smaller rank is padded with zeros, which changes nothing.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor

from srr_core.errors import ExportError
from srr_core.formats.artifact_files import ADAPTER_CONFIG_FILE, ADAPTER_DTYPE, ADAPTER_FILE, factor_names
from srr_core.formats.checked import ReadTensor, expect, require_finite
from srr_core.formats.expert_factors import expert_factors, expert_part, expert_targets
from srr_core.formats.layout import stored

ADAPTER_WEIGHTS = ADAPTER_FILE
ADAPTER_CONFIG = ADAPTER_CONFIG_FILE

AdapterTask = Literal["CAUSAL_LM", "FEATURE_EXTRACTION", "SEQ_CLS"]
_BLOCK_SUFFIX = re.compile(r"(?:^|\.)([^.]+\.\d+\..+)$")


def adapter_names(module_name: str) -> tuple[str, str]:
    """Return the names of R and of L in the adapter file; experts of a layer share theirs."""
    part = expert_part(module_name)
    return factor_names(module_name) if part is None else part.names()


def adapter_tensors(
    module_name: str,
    left: Shaped[Tensor, "out r"] | None,
    right: Shaped[Tensor, "r in"] | None,
    *,
    rank: int,
    shape: tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    """Return the two tensors of one layer in bf16, padded with zeros to the adapter's rank.

    Args:
        left: L, or None where the layer has no correction; then `shape`, (out, in), is needed.
    Raises:
        ExportError: the layer's rank is above the adapter's.
    """
    if left is None or right is None:
        if shape is None:
            raise ExportError(f"{module_name} has no factors and no shape to write zeros for")
        left, right = torch.zeros(shape[0], 0), torch.zeros(0, shape[1])
    missing = rank - right.shape[0]
    if missing < 0:
        raise ExportError(f"{module_name} has rank {right.shape[0]}, above the adapter's {rank}")
    name_right, name_left = factor_names(module_name)
    padded_right = torch.nn.functional.pad(right.to(ADAPTER_DTYPE), (0, 0, 0, missing))
    padded_left = torch.nn.functional.pad(left.to(ADAPTER_DTYPE), (0, missing))
    return stored({name_right: padded_right, name_left: padded_left})


def read_adapter(
    module_name: str, read: ReadTensor, *, rank: int, shape: tuple[int, int]
) -> tuple[Shaped[Tensor, "out r"], Shaped[Tensor, "r in"]]:
    """Return (L, R) of one layer as stored, padding included.

    Raises:
        CheckpointError: a tensor has the wrong dtype or shape, or is not finite; the message names it.
    """
    name_right, name_left = adapter_names(module_name)
    part = expert_part(module_name)
    if part is None:
        left = expect(read(name_left), name_left, dtype=ADAPTER_DTYPE, shape=(shape[0], rank))
        right = expect(read(name_right), name_right, dtype=ADAPTER_DTYPE, shape=(rank, shape[1]))
    else:
        left, right = expert_factors(part, read, rank=rank, shape=shape)
    for name, tensor in ((name_left, left), (name_right, right)):
        require_finite(tensor, name)
    return left, right


def target_modules(module_names: Iterable[str]) -> list[str]:
    """Return the names PEFT attaches the adapter to, matching no other module; experts are targeted apart.

    PEFT compares from the end, so a name is cut before its block list ("layers.0.mlp.up_proj"): it
    then also fits a model loaded without its head.
    """
    return sorted({_from_block(name) for name in module_names if expert_part(name) is None})


def adapter_config(
    *,
    rank: int,
    target_modules: Sequence[str],
    base_model: str | None,
    task: AdapterTask | None,
    modules: Iterable[str] = (),
) -> dict[str, Any]:
    """Return adapter_config.json.

    Args:
        modules: All compressed modules; where experts are among them, their fused parameters are targeted.
        base_model: On a hub this must be the repository itself: transformers follows it for every
            model that is not a local folder. None is enough for a folder.
    """
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": rank,
        "target_modules": list(target_modules),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
        **expert_targets(modules, rank=rank),
    }


def _from_block(module_name: str) -> str:
    match = _BLOCK_SUFFIX.search(module_name)
    return match.group(1) if match else module_name
