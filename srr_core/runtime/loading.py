"""One call from a folder or a repository to a model whose weights stay packed and whose L·R is attached."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from srr_core.checkpoint.header import read_header
from srr_core.errors import CheckpointError
from srr_core.runtime.integration import CONFIG_FILE, register
from srr_core.runtime.linear import PackedLinear
from srr_core.runtime.stored_forms import read_marker

ADAPTER_FILE = "adapter_model.safetensors"
_HUB_OPTIONS = frozenset({"revision", "token", "cache_dir", "local_files_only"})


def load(
    model: str | Path,
    *,
    device: str | torch.device | Mapping[str, Any] = "cpu",
    dtype: torch.dtype | None = None,
    widen: bool = False,
    native: bool = False,
    **options: Any,
) -> PreTrainedModel:
    """Return one of our artifacts as a transformers model for inference, or for training adapters on top.

    Args:
        model: A folder, or a repository id that transformers downloads.
        device: A device, or a `device_map` of transformers ("auto" included).
        dtype: Of activations and of what is not packed; the artifact's own by default.
        widen: Hold 2- and 3-bit codes as 4 bits where that is faster: bfloat16 on a CPU, block 32.
        native: Compile the C kernels with this machine's compiler (about a second) and use them on a CPU.
        options: Passed to `from_pretrained`: revision, token, cache_dir, local_files_only.

    Raises:
        CheckpointError: not one of our artifacts, damaged, or without the adapter it needs.
        ImportError: peft is needed and not installed.
    """
    register()
    source = str(model)
    hub = {key: value for key, value in options.items() if key in _HUB_OPTIONS}
    config = transformers.AutoConfig.from_pretrained(source, **hub)
    written = getattr(config, "quantization_config", None)
    if not isinstance(written, dict):
        raise CheckpointError(f"{source}: {CONFIG_FILE} has no quantization_config; this is not one of our artifacts")
    marker = read_marker(written, file=CONFIG_FILE)
    if marker.rank > 0:
        _check_adapter_file(source, hub)
    config.quantization_config = {**written, "widen": widen, "native": native}
    loaded: PreTrainedModel = _model_class(config).from_pretrained(
        source, config=config, dtype=dtype or "auto", **_placement(device), **options
    )
    if marker.rank > 0:
        _check_attached(loaded, source)
        _narrow_factors(loaded)
    loaded.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    return loaded


def _check_adapter_file(source: str, hub: Mapping[str, Any]) -> None:
    try:
        found = cached_file(source, ADAPTER_FILE, **hub)
    except OSError as error:
        raise CheckpointError(
            f"{source}: {ADAPTER_FILE} is missing; without it the model would be Q alone, not Q + L·R"
        ) from error
    names = set(read_header(Path(str(found))))
    for name in sorted(names):
        partner = name.replace(".lora_A.", ".lora_B.") if ".lora_A." in name else name.replace(".lora_B.", ".lora_A.")
        if partner not in names:
            raise CheckpointError(f"{ADAPTER_FILE}: tensor {partner!r} is missing beside {name!r}")


def _check_attached(model: nn.Module, source: str) -> None:
    bare = [name for name, module in model.named_modules() if _is_bare(name, module)]
    if bare:
        raise CheckpointError(f"{source}: the adapter leaves {bare[0]} without its L·R; the artifact is damaged")


def _narrow_factors(model: PreTrainedModel) -> None:
    # PEFT widens bf16 factors to float32, twice the memory and time; in a bf16 model they are exact as stored.
    if model.dtype != torch.bfloat16:
        return
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)


def _is_bare(name: str, module: nn.Module) -> bool:
    return isinstance(module, PackedLinear) and not name.endswith(".base_layer")


def _model_class(config: Any) -> Any:
    architectures = getattr(config, "architectures", None) or [None]
    found = getattr(transformers, str(architectures[0]), None)
    if found is None:
        raise CheckpointError(f"{CONFIG_FILE}: names the architecture {architectures[0]!r}, unknown to transformers")
    return found


def _placement(device: str | torch.device | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(device, Mapping) or device in ("auto", "balanced", "sequential"):
        return {"device_map": device}
    return {} if torch.device(device).type == "cpu" else {"device_map": {"": torch.device(device)}}
