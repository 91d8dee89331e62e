"""The artifact as its users meet it: loaded by stock transformers, compared with Q + L·R computed densely."""

import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from srr_core.checkpoint.artifact_names import MARKER
from srr_core.checkpoint.expert_names import stacked_part
from srr_core.checkpoint.index import read_json
from srr_core.errors import CheckpointError, VerificationError
from srr_core.formats.adapter import ADAPTER_CONFIG
from srr_core.formats.artifact import Artifact, open_artifact
from srr_core.formats.artifact_files import empty_model, model_class, read_configuration
from srr_core.models.inputs import inputs_of
from srr_core.runtime.integration import match_modules
from srr_core.runtime.plain_tensors import require_complete
from srr_core.verification.attachment import check_attached

_MATMULS_PER_BLOCK = 4
_SAFETY = 16.0


@dataclass(frozen=True)
class LogitCheck:
    """How far the loaded model is from the dense reference, relative to its largest output."""

    difference: float
    tolerance: float
    found: Float[Tensor, "..."] = field(repr=False)
    """First output of the loaded model: logits, or hidden states where it has no head."""
    wanted: Float[Tensor, "..."] = field(repr=False)
    """The same of the dense reference."""


def verify_structure(directory: Path) -> None:
    """Check that every layer and every factor has its place in the stock model, without reading a weight.

    Raises:
        VerificationError: a layer or a factor has none; the message names the tensor.
    """
    try:
        artifact = open_artifact(directory)
        model = _empty_model(artifact)
        match_modules(model, artifact.module_names())
        if artifact.adapter is not None:
            shapes = {name: entry.shape for name, entry in artifact.adapter.entries.items()}
            check_attached(model, read_json(directory / ADAPTER_CONFIG), shapes)
    except CheckpointError as error:
        raise VerificationError(f"{directory.name}: {error}") from error


def verify_logits(directory: Path, token_ids: Int[Tensor, "batch tokens"]) -> LogitCheck:
    """Load the artifact in float32 as a user would and compare its outputs with the dense Q + L·R.

    Two float32 copies of the model are in memory, one after the other. The tolerance is what
    rounding explains: a product over n inputs is off by about eps·sqrt(n), and the products along the
    depth add up as their root mean square; 16 times that is still far below bf16's rounding.

    Raises:
        VerificationError: the artifact does not load, or its outputs differ by more than that.
    """
    artifact = open_artifact(directory)
    found = outputs_of(_load_as_a_user(artifact), token_ids)
    wanted = outputs_of(dense_model(artifact), token_ids)
    if not torch.isfinite(found).all():
        raise VerificationError(f"{directory.name}: the reloaded model's outputs are not finite")
    check = LogitCheck(
        difference=float((found - wanted).abs().max() / wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)),
        tolerance=_tolerance(artifact),
        found=found,
        wanted=wanted,
    )
    if check.difference > check.tolerance:
        raise VerificationError(
            f"{directory.name}: the reloaded model differs from Q + L·R by {check.difference:.2e} of its largest "
            f"output, rounding explains {check.tolerance:.2e}"
        )
    return check


@torch.inference_mode()
def outputs_of(model: nn.Module, token_ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "..."]:
    """Return the first output of a model in float32: logits, or hidden states where it has no head.

    Raises:
        VerificationError: it does not run on token ids alone.
    """
    try:
        output: Tensor = model(**inputs_of(model, token_ids))[0]
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise VerificationError(f"the model does not run: {reason}") from error
    return output.to(torch.float32)


def dense_state(artifact: Artifact, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return every weight of the artifact under its source name, L·R merged in float32, then cast.

    Memory: the whole model in `dtype`.
    """
    state = {name: _cast(artifact.weights[name], dtype) for name in artifact.plain_names()}
    transposed = transposed_modules(artifact)
    for module in artifact.module_names():
        if stacked_part(module) is None:
            weight = merged_weight(artifact, module).to(dtype)
            state[f"{module}.weight"] = weight.t().contiguous() if module in transposed else weight
    return state | {parameter: merged_stack(artifact, parameter).to(dtype) for parameter in artifact.stacks()}


def transposed_modules(artifact: Artifact) -> frozenset[str]:
    """Return the compressed modules whose dense weight is stored [in, out], as GPT-2's Conv1D does."""
    model = _empty_model(artifact)
    names = match_modules(model, artifact.module_names())
    return frozenset(file for name, file in names.items() if isinstance(model.get_submodule(name), Conv1D))


def check_complete(artifact: Artifact) -> None:
    """Check that the files fill every place of the model, each with a tensor of its shape. Raises CheckpointError."""
    require_complete(_empty_model(artifact), artifact.weights.entries)


def merged_weight(artifact: Artifact, module_name: str) -> Float[Tensor, "out in"]:
    """Return Q + L·R of one layer in float32, Q as the native layout decodes it."""
    layer = artifact.read_layer(module_name)
    weight = artifact.layout.loaded_weight(layer.quantized)
    if layer.left is None or layer.right is None:
        return weight
    return weight + layer.left.to(torch.float32) @ layer.right.to(torch.float32)


def merged_stack(artifact: Artifact, parameter: str) -> Float[Tensor, "experts rows columns"]:
    """Return Q + L·R of every matrix of a stacked parameter in float32, as the model holds them."""
    matrices = [merged_weight(artifact, module) for module in artifact.stacks()[parameter]]
    return torch.stack([matrix.mT if parameter in artifact.turned else matrix for matrix in matrices])


def dense_model(artifact: Artifact) -> nn.Module:
    """Return the artifact as a plain float32 model in which Q + L·R is one matrix."""
    config = dense_config(artifact)
    model: nn.Module = model_class(artifact.config).from_pretrained(
        None, config=config, state_dict=dense_state(artifact), dtype=torch.float32
    )
    return model.eval()


def dense_config(artifact: Artifact) -> Any:
    """Return the model's configuration without its quantization. Raises CheckpointError."""
    config = read_configuration(artifact.directory)
    del config.quantization_config
    return config


def _empty_model(artifact: Artifact) -> PreTrainedModel:
    return empty_model(artifact.config, dense_config(artifact), num_tensors=len(artifact.weights))


def _load_as_a_user(artifact: Artifact) -> nn.Module:
    config = read_configuration(artifact.directory)
    auto = _stock_class(artifact, config)
    if artifact.layout.stock_loadable:
        # Without our entry transformers takes the stock route even though this package is imported.
        config.quantization_config = {k: v for k, v in config.quantization_config.items() if k != MARKER}
    try:
        with warnings.catch_warnings():
            # PEFT (0.21) looks for patterns of experts among modules only, so it calls those that do match unmatched.
            warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)
            model, info = auto.from_pretrained(
                artifact.directory, config=config, dtype=torch.float32, output_loading_info=True
            )
    except (RuntimeError, ValueError, KeyError, OSError, TypeError, CheckpointError) as error:
        raise VerificationError(f"{artifact.directory.name}: stock transformers cannot load it: {error}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise VerificationError(f"{artifact.directory.name}: stock transformers finds no tensor for {missing}")
    # Of a model with an adapter these are the adapter's. Other tensors may be left over: those the source has too many.
    modules = set(artifact.module_names())
    unread = sorted(name for name in info["unexpected_keys"] if ".lora_" in name or name.rpartition(".")[0] in modules)
    if unread:
        raise VerificationError(f"{artifact.directory.name}: stock transformers does not read {', '.join(unread[:3])}")
    # The stock route leaves fused experts in the dtype of their scales; in float32 they hold the same values.
    # Adapters come in bf16; models that decompress in their modules have none and refuse to be cast.
    is_dense = artifact.layout.stock_loadable and not artifact.layout.mixed
    loaded: nn.Module = model.eval().float() if is_dense else model.eval()
    return loaded


def _stock_class(artifact: Artifact, config: Any) -> Any:
    """Return what a user would load with: the automatic class where it leads to the artifact's own."""
    own = model_class(artifact.config)
    is_found = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and MODEL_FOR_CAUSAL_LM_MAPPING[type(config)] is own
    return transformers.AutoModelForCausalLM if is_found else own


def _tolerance(artifact: Artifact) -> float:
    config = artifact.config.get("text_config", artifact.config)
    width = float(config.get("hidden_size") or config.get("n_embd") or 4096)
    depth = float(config.get("num_hidden_layers") or config.get("n_layer") or 32)
    return _SAFETY * torch.finfo(torch.float32).eps * math.sqrt(width) * math.sqrt(_MATMULS_PER_BLOCK * depth)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
