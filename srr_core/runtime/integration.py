"""transformers told about our artifacts: after `register`, plain `from_pretrained` keeps them packed."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compressed_tensors.compressors import ModelCompressor
from torch import nn
from transformers import PreTrainedModel
from transformers.integrations.compressed_tensors import CompressedTensorsDequantize
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizer_compressed_tensors import CompressedTensorsHfQuantizer
from transformers.utils.import_utils import is_peft_available
from transformers.utils.quantization_config import CompressedTensorsConfig, QuantizationConfigMixin

from srr_core.checkpoint.header import TensorEntry, read_header
from srr_core.errors import CheckpointError
from srr_core.runtime.codecs import SHAPE_SUFFIX, Codec
from srr_core.runtime.linear import PackedLinear
from srr_core.runtime.stored_forms import COMPRESSED_TENSORS, MARKER, Marker, is_ours, read_marker

CONFIG_FILE = "config.json"
_SHAPE_ENDING = f".{SHAPE_SUFFIX}"
_EXPERT = re.compile(r"\.experts\.\d+\.")
_FROM_BLOCK = re.compile(r"(?:^|\.)([^.]+\.\d+\..+)$")


class PackedConfig(QuantizationConfigMixin):
    """The `quantization_config` of one of our artifacts, kept word for word so that saving writes it again."""

    def __init__(self, written: Mapping[str, Any], *, widen: bool = False, native: bool = False) -> None:
        self.quant_method = MARKER  # type: ignore[assignment]  # registered methods are strings, the enum lists built-in ones
        self.written = written
        self.widen = widen
        self.native = native

    @property
    def marker(self) -> Marker:
        """What the artifact says about itself. Raises CheckpointError."""
        return read_marker(self.written, file=CONFIG_FILE)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Return the configuration of a config.json; `load` adds the keys `widen` and `native`, which are not saved."""
        written = dict(config_dict)
        options = {key: bool(written.pop(key, False)) for key in ("widen", "native")}
        config = cls(written, **options)
        return (config, kwargs) if return_unused_kwargs else config

    def to_dict(self) -> dict[str, Any]:
        """Return what config.json held."""
        return dict(self.written)


class CompressedTensorsOrPackedConfig(CompressedTensorsConfig):
    """Stands in transformers' table for compressed-tensors: ours become packed, all others stay as they were."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Return our configuration for our artifacts, transformers' own for every other."""
        target = PackedConfig if is_ours(config_dict) else CompressedTensorsConfig
        return target.from_dict(config_dict, return_unused_kwargs=return_unused_kwargs, **kwargs)


class PackedQuantizer(HfQuantizer):
    """Replaces the compressed Linear layers of a model on the meta device by packed ones.

    Experts are the exception: transformers fuses them into one dense parameter, so they are decoded while
    they are loaded, by compressed-tensors.
    """

    requires_calibration = True
    quantization_config: PackedConfig
    serialized_names = CompressedTensorsHfQuantizer.serialized_names
    compressor: ModelCompressor | None = None
    """Decodes experts; set when the checkpoint has any."""

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Refuse what would silently lose the correction.

        Raises:
            ImportError: the artifact has an adapter and peft is not installed.
        """
        if self.quantization_config.marker.rank > 0 and not is_peft_available():
            raise ImportError(
                "this model is Q + L·R with L·R as a PEFT adapter; without peft it would be Q alone: pip install peft"
            )

    def _process_model_before_weight_loading(
        self, model: PreTrainedModel, checkpoint_files: list[str] | None = None, **kwargs: Any
    ) -> PreTrainedModel:
        if not checkpoint_files:
            raise CheckpointError("a packed model is loaded from its files, not from a state dict")
        entries = {name: entry for file in checkpoint_files for name, entry in read_header(Path(file)).items()}
        if any(_EXPERT.search(name) for name in packed_modules(entries)):
            self.compressor = self._expert_decoder()
        codec = self.quantization_config.marker.codec()
        for name, file_name in match_modules(model, packed_modules(entries)).items():
            packed = _packed_like(model.get_submodule(name), codec, self.quantization_config)
            check_entries(file_name, packed, entries)
            model.set_submodule(name, packed)
        return model

    def _expert_decoder(self) -> ModelCompressor:
        if self.quantization_config.marker.quant_method != COMPRESSED_TENSORS:
            raise CheckpointError("experts in our own layout cannot be loaded: transformers holds them fused and dense")
        written = dict(self.quantization_config.written)
        stock = CompressedTensorsConfig.from_dict(written)  # type: ignore[no-untyped-call]  # transformers leaves it so
        return ModelCompressor.from_compression_config(stock)

    def get_load_operations(self) -> dict[str, Any]:
        """Return the decoder of experts, if there are any."""
        return {} if self.compressor is None else {"dequantize": CompressedTensorsDequantize}

    def get_weight_conversions(self) -> list[Any]:
        """Return nothing: packed layers take the tensors of the file as they are."""
        return []

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        for module in model.modules():
            if isinstance(module, PackedLinear) and module.weight.device.type != "meta":
                module.prepare(model.dtype)
        if self.compressor is not None:
            _widen_experts(model)
        return model

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """State dicts hold the tensors of the file, so saving writes the artifact's weights again."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Adapters may be trained on top; the codes themselves have no gradient."""
        return True


def packed_modules(entries: Iterable[str]) -> list[str]:
    """Return the modules of a checkpoint whose weights are packed."""
    return [name.removesuffix(_SHAPE_ENDING) for name in entries if name.endswith(_SHAPE_ENDING)]


def match_modules(model: nn.Module, file_names: Iterable[str]) -> dict[str, str]:
    """Return, by name in the model, the name in the file of every packed module the model has; experts left out.

    Names are compared from their block list on, so a model without its head finds its layers too.

    Raises:
        CheckpointError: the model has none of them, or a packed weight belongs to another kind of module.
    """
    by_tail = {_tail(name): name for name in file_names if not _EXPERT.search(name)}
    found = {name: by_tail[_tail(name)] for name, _ in model.named_modules() if _tail(name) in by_tail}
    missing = sorted(set(by_tail.values()) - set(found.values()))
    if missing:
        raise CheckpointError(f"{type(model).__name__} has no module for the packed weight of {missing[0]}")
    return found


def check_entries(file_name: str, packed: PackedLinear, entries: Mapping[str, TensorEntry]) -> None:
    """Check that the file holds what a packed module declares, before any memory is taken.

    Raises:
        CheckpointError: a tensor is missing or has another dtype or shape; the message names file and tensor.
    """
    for suffix, declared in packed.codec.declared((packed.out_features, packed.in_features)).items():
        name = f"{file_name}.{suffix}"
        entry = entries.get(name)
        if entry is None:
            raise CheckpointError(f"tensor {name!r} is in no file of the checkpoint")
        if (entry.dtype, entry.shape) != (declared.dtype, declared.shape):
            raise CheckpointError(
                f"{entry.file.name}: tensor {name!r} is {entry.dtype} {list(entry.shape)}, "
                f"the model needs {declared.dtype} {list(declared.shape)}"
            )


def register() -> None:
    """Put our configuration and quantizer into transformers' tables; a second call changes nothing."""
    if MARKER not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        register_quantization_config(MARKER)(PackedConfig)
        register_quantizer(MARKER)(PackedQuantizer)
        AUTO_QUANTIZATION_CONFIG_MAPPING[COMPRESSED_TENSORS] = CompressedTensorsOrPackedConfig


def _widen_experts(model: PreTrainedModel) -> None:
    # They are decoded in the dtype of their scales, bf16, and would be multiplied in it inside a float32 model.
    for name, parameter in model.named_parameters():
        if ".experts." in name and parameter.is_floating_point():
            parameter.data = parameter.data.to(model.dtype)


def _packed_like(module: nn.Module, codec: Codec, config: PackedConfig) -> PackedLinear:
    if isinstance(module, nn.Linear):
        in_features, out_features = module.in_features, module.out_features
    elif isinstance(module, Conv1D):
        in_features, out_features = module.nx, module.nf
    else:
        raise CheckpointError(f"a packed weight belongs to a {type(module).__name__}, not to a linear layer")
    return PackedLinear(
        codec,
        in_features,
        out_features,
        bias=module.bias is not None,
        dtype=module.weight.dtype,
        device=module.weight.device,
        widen=config.widen,
        native=config.native,
    )


def _tail(name: str) -> str:
    match = _FROM_BLOCK.search(name)
    return match.group(1) if match else name
