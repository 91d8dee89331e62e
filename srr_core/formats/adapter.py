"""L·R as a PEFT LoRA adapter: lora_A is R, lora_B is L, alpha equals the rank.

One rank for the whole adapter: mixed ranks need a pattern that llama.cpp's converter gets wrong and SGLang (0.5.23)
does not read. A layer of smaller rank is padded with zeros, which changes nothing. `init_lora_weights` is true, since
vLLM (0.33) refuses adapters whose initialization by name says that they changed the base.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor

from srr_core.checkpoint.artifact_names import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_FILE,
    STACKED_LEFT,
    STACKED_RIGHT,
    factor_names,
)
from srr_core.checkpoint.expert_names import expert_name, stacked_part
from srr_core.errors import ExportError
from srr_core.formats.artifact_files import ADAPTER_DTYPE
from srr_core.formats.checked import ReadTensor, expect, require_finite
from srr_core.formats.expert_factors import ExpertPart, expert_factors, expert_targets
from srr_core.formats.layout import stored

ADAPTER_WEIGHTS = ADAPTER_FILE
ADAPTER_CONFIG = ADAPTER_CONFIG_FILE

AdapterTask = Literal["CAUSAL_LM", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM", "SEQ_CLS"]
_BLOCK_SUFFIX = re.compile(r"(?:^|\.)([^.]+\.\d+\..+)$")


def adapter_names(module_name: str, part: ExpertPart | None = None) -> tuple[str, str]:
    """Return the names of R and of L in the adapter file; experts of a layer share theirs.

    Args:
        part: Of an expert; see `expert_parts`.
    """
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
    module_name: str, read: ReadTensor, *, rank: int, shape: tuple[int, int], part: ExpertPart | None = None
) -> tuple[Shaped[Tensor, "out r"], Shaped[Tensor, "r in"]]:
    """Return (L, R) of one layer as stored, padding included.

    Args:
        part: Of an expert; see `expert_parts`.
    Raises:
        CheckpointError: a tensor has the wrong dtype or shape, or is not finite; the message names it.
    """
    name_right, name_left = adapter_names(module_name, part)
    if part is None:
        left = expect(read(name_left), name_left, dtype=ADAPTER_DTYPE, shape=(shape[0], rank))
        right = expect(read(name_right), name_right, dtype=ADAPTER_DTYPE, shape=(rank, shape[1]))
    else:
        left, right = expert_factors(part, read, rank=rank, shape=shape)
    for name, tensor in ((name_left, left), (name_right, right)):
        require_finite(tensor, name)
    return left, right


@dataclass(frozen=True)
class AdapterTargets:
    """How PEFT is told where L·R belongs."""

    by_weight: frozenset[str] = frozenset()
    """Layers named by their weight, because PEFT would take modules of their name for experts."""
    bare: frozenset[str] = frozenset()
    """Layers that PEFT attaches nothing to; they have no L·R."""

    def entries(self, paths: Mapping[str, str], others: Iterable[str] = ()) -> dict[str, list[str]]:
        """Return `target_modules` and `target_parameters` of layers, which match nothing else; experts left out.

        Args:
            paths: Of the layers' modules in the model, by the layers' names.
            others: Further modules of the model; those among the layers may be in it.
        """
        apart = self.bare | {name for name in paths if expert_name(name) or stacked_part(name)}
        wanted = {name: path for name, path in paths.items() if name not in apart}
        every = list(others)
        modules = (path for name, path in wanted.items() if name not in self.by_weight)
        weights = (f"{path}.weight" for name, path in wanted.items() if name in self.by_weight)
        return {
            "target_modules": target_modules(modules, every),
            "target_parameters": target_modules(weights, [f"{name}.weight" for name in every]),
        }


def beside_tensors(
    name: str, left: Shaped[Tensor, "out r"] | None, right: Shaped[Tensor, "r in"] | None
) -> dict[str, Tensor]:
    """Return L and R of one matrix of a stack in bf16, as they lie beside its codes; nothing where there is no L·R."""
    if left is None or right is None:
        return {}
    factors = {f"{name}.{STACKED_LEFT}": left.to(ADAPTER_DTYPE), f"{name}.{STACKED_RIGHT}": right.to(ADAPTER_DTYPE)}
    return stored(factors)


def read_beside(
    name: str, weights: Mapping[str, Tensor], shape: tuple[int, int]
) -> tuple[Shaped[Tensor, "out r"] | None, Shaped[Tensor, "r in"] | None]:
    """Return (L, R) of one matrix of a stack, or (None, None) where it has none.

    Raises:
        CheckpointError: one is missing beside the other, has the wrong dtype or shape, or is not finite.
    """
    names = (f"{name}.{STACKED_LEFT}", f"{name}.{STACKED_RIGHT}")
    if not any(factor in weights for factor in names):
        return None, None
    left, right = (weights[factor] for factor in names)
    rank = right.shape[0] if right.dim() else 0
    expect(left, names[0], dtype=ADAPTER_DTYPE, shape=(shape[0], rank))
    expect(right, names[1], dtype=ADAPTER_DTYPE, shape=(rank, shape[1]))
    require_finite(left, names[0])
    require_finite(right, names[1])
    return left, right


def target_modules(module_names: Iterable[str], others: Iterable[str] = ()) -> list[str]:
    """Return the names PEFT attaches the adapter to, matching no other module; experts are targeted apart.

    PEFT compares from the end, so a name is cut before its block list ("layers.0.mlp.up_proj"): it
    then also fits a model loaded without its head. Where a module that gets nothing ends the same way, as a block of
    a vision tower does, the name is as much longer as it takes to tell them apart.

    Args:
        others: Further modules of the model; those among `module_names` may be in it.
    """
    wanted = {name for name in module_names if expert_name(name) is None}
    suffixes = Counter(suffix for name in set(others) - wanted for suffix in _suffixes(name))
    return sorted({_shortest(name, suffixes) for name in wanted})


def adapter_config(
    *,
    rank: int,
    target_modules: Sequence[str],
    base_model: str | None,
    task: AdapterTask | None,
    target_parameters: Sequence[str] = (),
    experts: Iterable[ExpertPart] = (),
) -> dict[str, Any]:
    """Return adapter_config.json.

    Args:
        target_parameters: Weights to attach to beside those of experts.
        experts: Those with L·R; their fused parameters are targeted.
        base_model: On a hub this must be the repository itself: transformers follows it for every
            model that is not a local folder. None is enough for a folder.
    """
    fused = expert_targets(experts, rank=rank)
    parameters = sorted({*target_parameters, *fused.pop("target_parameters", ())})
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
        "init_lora_weights": True,
        "modules_to_save": None,
        "inference_mode": True,
        **({"target_parameters": parameters} if parameters else {}),
        **fused,
    }


def _shortest(module_name: str, taken: Counter[str]) -> str:
    match = _BLOCK_SUFFIX.search(module_name)
    cut = match.group(1) if match else module_name
    candidates = (suffix for suffix in _suffixes(module_name) if len(suffix) >= len(cut))
    return next((suffix for suffix in candidates if not taken[suffix]), module_name)


def _suffixes(module_name: str) -> Iterator[str]:
    """Yield what a name ends with, from its last part to the whole."""
    for match in reversed(list(re.finditer(r"\.", module_name))):
        yield module_name[match.end() :]
    yield module_name
