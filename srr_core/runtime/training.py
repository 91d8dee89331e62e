"""A packed model made ready for training: a stock PeftModel over a frozen base, its factors in float32.

The base never changes: its codes are buffers without a gradient. What trains is what PEFT saves, L·R and the head of a
classifier, so a checkpoint is small and `transformers.Trainer` finds it again. The model that `load` gives by default
has its adapter injected and cannot be resumed from what it saves.
"""

import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, set_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from srr_core.checkpoint.artifact_names import ADAPTER_CONFIG_FILE, ADAPTER_FILE, ADAPTER_PREFIX
from srr_core.checkpoint.header import read_header
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError
from srr_core.formats.checked import require_finite
from srr_core.models.inputs import reads_in_halves
from srr_core.runtime.fused_adapter import register_fused_adapter
from srr_core.runtime.linear import PackedLinear

ADAPTER_NAME = "default"
"""PEFT's own, which it leaves out of the names in files."""
_WHOLE = f".modules_to_save.{ADAPTER_NAME}."
"""In the name of a parameter that PEFT trains whole."""
_CLASSIFIER = "ForSequenceClassification"


def attach(
    base: PreTrainedModel, folder: Path, *, trainable: bool, dropout: float = 0.0, head: Iterable[str] = ()
) -> PeftModel:
    """Return a stock PeftModel over a base without an adapter, with the adapter of a folder on it.

    Args:
        base: Packed or dense; it becomes a part of the result and is frozen.
        folder: Holds adapter_config.json and adapter_model.safetensors.
        trainable: Training mode, gradients for the factors and for the head; else evaluation mode and none.
        dropout: Of the inputs of R, in training mode. Not for experts of a mixture.
        head: Modules that are trained whole beside those that make a classifier.
    Raises:
        CheckpointError: the folder holds no LoRA adapter, one of another model, or a damaged one.
        ValueError: dropout was asked for and PEFT has none for the experts of a mixture.
    """
    register_fused_adapter()
    prepare_base(base, trainable=trainable)
    config = _config(folder, trainable=trainable, dropout=dropout)
    config.task_type = _task(base)
    config.modules_to_save = sorted({*head_modules(base), *head}) or None
    with warnings.catch_warnings():
        # Of a name that transformers retires and PEFT (0.21) reads, of Conv1D modules and of patterns for experts.
        warnings.simplefilter("ignore")
        model = cast(PeftModel, get_peft_model(base, config, adapter_name=ADAPTER_NAME))
    entries = read_header(folder / ADAPTER_FILE)
    reader = CheckpointReader(folder, entries=entries)
    names = names_in_model(base, entries, {_in_files(name) for name, _ in model.named_parameters()})
    tensors = {names[name]: reader[name].to(torch.float32) for name in entries}
    for name, tensor in tensors.items():
        require_finite(tensor, f"{name} of {ADAPTER_FILE}")
    # PEFT wants every tensor of a head; where the adapter has none, it begins as the base has it.
    tensors |= {
        _in_files(name): parameter.detach()
        for name, parameter in model.named_parameters()
        if _WHOLE in name and _in_files(name) not in tensors
    }
    try:
        result: Any = set_peft_model_state_dict(model, tensors, adapter_name=ADAPTER_NAME)
    except RuntimeError as error:  # shapes that do not fit
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{ADAPTER_FILE}: belongs to another model: {reason}") from error
    problems = [f"tensor {name!r} belongs to no layer of the model" for name in result.unexpected_keys]
    problems += [f"holds no tensor for {name!r}" for name in result.missing_keys if ".lora_" in name]
    if problems:
        raise CheckpointError(f"{ADAPTER_FILE}: {problems[0]}")
    _hold_in_float32(model)
    ignore_packed_buffers(model)
    model.train(trainable)
    return model


def prepare_base(base: PreTrainedModel, *, trainable: bool) -> PreTrainedModel:
    """Freeze every parameter of a base; in training mode it also lets gradients through to adapters put on it."""
    base.requires_grad_(False)
    if trainable:
        # The first block would see an input without a gradient, and re-entrant checkpointing would drop its layers.
        base.enable_input_require_grads()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        base.config.use_cache = False
        ignore_packed_buffers(base)
    base.train(trainable)
    return base


def head_modules(base: PreTrainedModel) -> tuple[str, ...]:
    """Return the modules of a sequence classifier outside its body, which are trained whole; none of other models."""
    if _CLASSIFIER not in type(base).__name__:
        return ()
    return tuple(
        name
        for name, child in base.named_children()
        if name != base.base_model_prefix and any(True for _ in child.parameters())
    )


def trained_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield what is trained, by the names it has in PEFT's files."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield _in_files(name), parameter


def names_in_model(base: PreTrainedModel, names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return, by its name in an artifact, the name a tensor of an adapter has in the model.

    Loaders rename what they read of some models, so their artifacts use the names from before.

    Args:
        known: Names in the model, with PEFT's prefix; one of them is never renamed.
    """
    renamings = [entry for entry in get_model_conversion_mapping(base) if isinstance(entry, WeightRenaming)]

    def renamed(name: str) -> str:
        plain = name.removeprefix(ADAPTER_PREFIX)
        return f"{ADAPTER_PREFIX}{rename_source_key(plain, renamings, [])[0]}"

    return {name: name if name in known else renamed(name) for name in names}


def ignore_packed_buffers(model: nn.Module) -> None:
    """Keep packed codes and scales out of DistributedDataParallel's first sync; no backend can send int16.

    They come from the same files on every process, so there is nothing to send.
    """
    names = [
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, PackedLinear)
        for name, _ in module.named_buffers(recurse=False)
    ]
    # Private, but its own documentation says it is what to call until the final form is found.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)  # type: ignore[no-untyped-call]  # noqa: SLF001


def _in_files(name: str) -> str:
    return name.replace(_WHOLE, ".").replace(f".{ADAPTER_NAME}.", ".")


def _config(folder: Path, *, trainable: bool, dropout: float) -> LoraConfig:
    stated = read_json(folder / ADAPTER_CONFIG_FILE)
    if stated.get("peft_type") != "LORA":
        raise CheckpointError(f"{ADAPTER_CONFIG_FILE}: peft_type is {stated.get('peft_type')!r}, not 'LORA'")
    known: dict[str, Any] = {key: value for key, value in stated.items() if key in LoraConfig.__dataclass_fields__}
    if dropout and known.get("target_parameters"):
        raise ValueError("peft has no dropout for the adapters of a mixture's experts; set dropout to 0")
    try:
        return LoraConfig(**{**known, "inference_mode": not trainable, "lora_dropout": dropout})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{ADAPTER_CONFIG_FILE}: peft cannot use it: {error}") from error


def _task(base: PreTrainedModel) -> TaskType:
    """Return the kind of PeftModel that fits a model, whatever the adapter was first written for."""
    if _CLASSIFIER in type(base).__name__:
        return TaskType.SEQ_CLS
    if reads_in_halves(base) and base.can_generate():
        return TaskType.SEQ_2_SEQ_LM
    return TaskType.CAUSAL_LM if hasattr(base, "prepare_inputs_for_generation") else TaskType.FEATURE_EXTRACTION


def _hold_in_float32(model: nn.Module) -> None:
    # PEFT widens the factors itself, but neither those of every tuner nor a head, whose input is then widened as well.
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.to(torch.float32)
    for name, module in model.named_modules():
        if name.endswith(f".modules_to_save.{ADAPTER_NAME}"):
            module.register_forward_pre_hook(_widened)


def _widened(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        value.to(torch.float32) if isinstance(value, Tensor) and value.is_floating_point() else value
        for value in arguments
    )
