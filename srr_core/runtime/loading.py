"""One call from a folder or a repository to a model whose weights stay packed and whose L·R is attached."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from srr_core.checkpoint.artifact_names import ADAPTER_FILE, ADAPTER_PREFIX, CONFIG_FILE
from srr_core.checkpoint.expert_names import RENAMED, expert_name
from srr_core.checkpoint.header import TensorEntry
from srr_core.checkpoint.index import INDEX_NAME, read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError
from srr_core.formats.artifact_files import adapter_entries, check_layers, empty_model, locate, read_configuration
from srr_core.formats.checked import require_finite
from srr_core.formats.stored_forms import Marker, read_marker
from srr_core.models.placement import Places
from srr_core.runtime.experts import PackedExperts
from srr_core.runtime.integration import refuse_disk, register, same_module
from srr_core.runtime.linear import PackedLinear
from srr_core.runtime.plain_tensors import require_complete
from srr_core.runtime.resident import release_freed
from srr_core.runtime.stacks import PackedStack

if TYPE_CHECKING:
    from peft import PeftModel

_HUB_OPTIONS = frozenset({"revision", "token", "cache_dir", "local_files_only"})
_NO_ADAPTER = ".no-adapter"
"""A subfolder that no artifact has: where transformers is told to look for an adapter when none is wanted."""


class _Own(Enum):
    OWN = "the artifact's own adapter"


OWN: Final = _Own.OWN
"""The adapter that lies in the artifact."""


@overload
def load(
    model: str | Path, *, adapter: Literal[_Own.OWN] = ..., trainable: Literal[False] = ..., **options: Any
) -> PreTrainedModel: ...


@overload
def load(model: str | Path, *, adapter: None, trainable: bool = ..., **options: Any) -> PreTrainedModel: ...


@overload
def load(model: str | Path, *, adapter: str | Path, trainable: bool = ..., **options: Any) -> "PeftModel": ...


@overload
def load(
    model: str | Path, *, adapter: Literal[_Own.OWN] = ..., trainable: Literal[True], **options: Any
) -> "PeftModel": ...


def load(
    model: str | Path,
    *,
    adapter: str | Path | _Own | None = OWN,
    trainable: bool = False,
    device: str | torch.device | Mapping[str, Any] = "cpu",
    dtype: torch.dtype | None = None,
    widen: bool = False,
    native: bool = False,
    **options: Any,
) -> "PreTrainedModel | PeftModel":
    """Return one of our artifacts as a transformers model: for inference, or for training its L·R or another adapter.

    What is trained, or has another adapter than its own, is a stock `PeftModel` over the packed base: it saves only
    what was trained, and `transformers.Trainer` resumes from what it saved. Base and codes are frozen; factors and
    the head of a classifier are float32 whatever the dtype of the base, because AdamW's steps at small learning rates
    vanish in bfloat16 (at 3e-5, 92 % of them).

    Args:
        model: A folder, or a repository id whose files transformers downloads.
        adapter: By default the artifact's own L·R. None: Q alone, to put a new adapter on. A folder: the adapter in
            it in place of the artifact's own.
        trainable: Return it in training mode, ready for an optimizer and for DistributedDataParallel.
        device: A device, or a `device_map` of transformers ("auto" included).
        dtype: Of activations and of what is not packed; the artifact's own by default.
        widen: Hold 2- and 3-bit codes as 4 bits where that is faster: bfloat16 on a CPU, block 32.
        native: Compile the C kernels with this machine's compiler (about a second) and use them on a CPU.
        options: Where the repository is found: revision, token, cache_dir, local_files_only. Others are passed to
            `from_pretrained`.

    Raises:
        CheckpointError: not one of our artifacts, damaged, incomplete, or without the adapter it needs; the message
            names the file and the tensor. An adapter of another model.
        ImportError: peft is needed and not installed.
        ValueError: `device` sends layers to disk; or the artifact has no L·R that could be trained.
    """
    if isinstance(adapter, _Own) and not trainable:
        return _load_whole(model, device=device, dtype=dtype, widen=widen, native=native, **options)
    from srr_core.runtime.training import attach, prepare_base  # noqa: PLC0415  # peft is optional

    opened = _open(model, with_adapter=False, device=device, dtype=dtype, widen=widen, native=native, **options)
    if adapter is None:
        return prepare_base(opened.model, trainable=trainable)
    if isinstance(adapter, _Own):
        if not opened.adapter:
            raise ValueError(
                f"{model} has no L·R to train: take adapter=None and get_peft_model, or `srr finetune`, which makes one"
            )
        adapter = opened.folder
    return attach(opened.model, Path(adapter), trainable=trainable)


@dataclass(frozen=True)
class _Opened:
    model: PreTrainedModel
    folder: Path
    adapter: Mapping[str, TensorEntry]
    """Tensors of the adapter that lies in the artifact."""
    marker: Marker
    places: Places


def _load_whole(model: str | Path, **options: Any) -> PreTrainedModel:
    opened = _open(model, with_adapter=True, **options)
    loaded = opened.model
    if opened.adapter:
        _check_attached(loaded, _as_read(opened.adapter, opened.places), opened.marker)
        _narrow_factors(loaded)
        release_freed()
        for adapter_config in loaded.peft_config.values():
            # So that an adapter that is trained further and saved is loaded again on top of the same weights.
            adapter_config.base_model_name_or_path = str(model)
    loaded.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    return loaded


def _open(
    model: str | Path,
    *,
    with_adapter: bool,
    device: str | torch.device | Mapping[str, Any],
    dtype: torch.dtype | None,
    widen: bool,
    native: bool,
    **options: Any,
) -> _Opened:
    register()
    source = str(model)
    hub = {key: options.pop(key) for key in sorted(_HUB_OPTIONS & options.keys())}
    folder = locate(source, hub)
    config = read_configuration(folder)
    written = getattr(config, "quantization_config", None)
    if not isinstance(written, dict):
        raise CheckpointError(f"{source}: {CONFIG_FILE} has no quantization_config; this is not one of our artifacts")
    marker = read_marker(written, file=CONFIG_FILE)
    if getattr(config, "transformers_weights", None) is not None:
        raise CheckpointError(f"{CONFIG_FILE}: transformers_weights names other weights than {INDEX_NAME}")
    weights = CheckpointReader(folder, may_have_adapter=True)
    shapes = check_layers(weights, marker.codec)
    corrected = {name: shape for name, shape in shapes.items() if name not in marker.bare}
    adapter = adapter_entries(folder, marker.rank, corrected, paths=marker.paths)
    del config.quantization_config
    empty = empty_model(read_json(folder / CONFIG_FILE), config, num_tensors=len(weights))
    require_complete(empty, weights.entries)
    config.quantization_config = {**written, "widen": widen, "native": native}
    if not with_adapter:
        options["adapter_kwargs"] = {"subfolder": _NO_ADAPTER}
    loaded = _loaded(type(empty), folder, config, {"dtype": dtype or "auto", **_placement(device), **options})
    loaded.config.name_or_path = source
    return _Opened(loaded, folder, adapter, marker, Places(empty))


def _loaded(
    kind: type[PreTrainedModel], folder: Path, config: PreTrainedConfig, options: Mapping[str, Any]
) -> PreTrainedModel:
    try:
        model: PreTrainedModel = kind.from_pretrained(folder, config=config, **options)
    except (
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:  # what a stranger's numbers make of code that trusts them
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(f"{folder.name}: transformers cannot load it: {reason}") from error
    return model


def _check_attached(model: nn.Module, adapter: Iterable[str], marker: Marker) -> None:
    unadapted = dict.fromkeys(name for name, _ in _adapted(model) if not name.endswith(".base_layer"))
    for name in marker.bare:  # of the files, where a prefix may differ
        part = expert_name(name)
        module = name if part is None else marker.paths.get(part.owner, part.owner.replace(*RENAMED))
        unadapted.pop(next((own for own in unadapted if same_module(own, module)), module), None)
    for name in unadapted:
        raise CheckpointError(f"{ADAPTER_FILE}: leaves {name} without its L·R; the artifact is damaged")
    factors = dict(_factors(model))
    for name in sorted(factors.keys() ^ set(adapter)):
        state = "is missing" if name in factors else "belongs to no layer of the model"
        raise CheckpointError(f"{ADAPTER_FILE}: tensor {name!r} {state}")
    for name, factor in factors.items():
        if not factor.is_meta:
            require_finite(factor, f"{name} of {ADAPTER_FILE}")


def _as_read(adapter: Iterable[str], places: Places) -> list[str]:
    """Return the tensors of an adapter by the names that loaders read them by."""
    return [f"{ADAPTER_PREFIX}{places.renamed(name.removeprefix(ADAPTER_PREFIX))}" for name in adapter]


def _factors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Yield L and R of every layer by their names in the adapter's file."""
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            yield f"{ADAPTER_PREFIX}{name.replace('.default.', '.')}", parameter


def _narrow_factors(model: PreTrainedModel) -> None:
    # PEFT widens bf16 factors to float32, twice the memory and time; in a bf16 model they are exact as stored.
    if model.dtype != torch.bfloat16:
        return
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)


def _adapted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that each need L·R of the adapter: packed layers, and experts as a whole."""
    experts: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if isinstance(module, PackedExperts | PackedStack):
            experts += (f"{name}.",)
        if isinstance(module, PackedExperts | PackedLinear) and not name.startswith(experts):
            yield name, module


def _placement(device: str | torch.device | Mapping[str, Any]) -> dict[str, Any]:
    refuse_disk(device)
    if isinstance(device, Mapping) or device in ("auto", "balanced", "sequential"):
        return {"device_map": device}
    return {} if torch.device(device).type == "cpu" else {"device_map": {"": torch.device(device)}}
