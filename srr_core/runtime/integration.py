"""transformers told about our artifacts: after `register`, plain `from_pretrained` keeps them packed."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer
from transformers.utils.import_utils import is_peft_available
from transformers.utils.quantization_config import CompressedTensorsConfig, QuantizationConfigMixin

from srr_core.checkpoint.artifact_names import ADAPTER_CONFIG_FILE, COMPRESSED_TENSORS, CONFIG_FILE, MARKER
from srr_core.checkpoint.expert_names import DOWN, GATE_UP, UP, stacked_part
from srr_core.checkpoint.header import read_header
from srr_core.errors import CheckpointError
from srr_core.formats.artifact_files import check_inside, check_layer, check_packed_names, is_expert, packed_modules
from srr_core.formats.stored_forms import Marker, is_ours, read_marker
from srr_core.models.placement import Places
from srr_core.runtime.experts import PackedExperts, pack_experts
from srr_core.runtime.linear import PackedLinear
from srr_core.runtime.resident import own_parameters, release_freed
from srr_core.runtime.stacks import pack_stacks

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
        """Return the configuration of a config.json; `load` adds the keys of its options, which are not saved."""
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
    """Replaces the compressed Linear layers and experts of a model on the meta device by packed ones."""

    requires_calibration = True
    quantization_config: PackedConfig
    names_in_files: Mapping[str, str] = {}
    """Packed modules, by their name in the model; filled before weights are loaded."""

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Refuse what would silently lose the correction.

        Raises:
            ImportError: the artifact has an adapter and peft is not installed.
            ValueError: `device_map` sends layers to disk.
        """
        if self.quantization_config.marker.rank > 0 and not is_peft_available():
            raise ImportError(
                "this model is Q + L·R with L·R as a PEFT adapter; without peft it would be Q alone: pip install peft"
            )
        refuse_disk(kwargs.get("device_map"))

    def _process_model_before_weight_loading(
        self, model: PreTrainedModel, checkpoint_files: list[str] | None = None, **kwargs: Any
    ) -> PreTrainedModel:
        if not checkpoint_files:
            raise CheckpointError("a packed model is loaded from its files, not from a state dict")
        files = [Path(file) for file in checkpoint_files]
        check_inside(str(model.config.name_or_path), files)
        entries = {name: entry for file in files for name, entry in read_header(file).items()}
        marker = self.quantization_config.marker
        check_packed_names(entries, marker.codec())
        if marker.rank > 0 and not (files[0].parent / ADAPTER_CONFIG_FILE).exists():
            raise CheckpointError(
                f"{ADAPTER_CONFIG_FILE} is missing: without it the model would be Q alone, not Q + L·R"
            )
        packed = packed_modules(entries)
        layers = match_modules(model, packed)
        for name, file_name in layers.items():
            model.set_submodule(name, self._packed_like(model.get_submodule(name), file_name))
        stacks = pack_stacks(model, entries, packed, marker.stacks, self._packed)
        experts = pack_experts(model, packed, self._packed)
        self.names_in_files = {**layers, **experts, **stacks}
        for name, file_name in self.names_in_files.items():
            layer = cast(PackedLinear, model.get_submodule(name))
            check_layer(file_name, (layer.out_features, layer.in_features), layer.codec, entries)
        return model

    def update_weight_conversions(self, weight_conversions: list[Any], model: PreTrainedModel) -> list[Any]:
        """Leave out what fuses experts: packed layers take the tensors of the file as they are."""
        fused = tuple(f".experts.{name}" for name in (GATE_UP, UP, DOWN))
        has_experts = any(isinstance(module, PackedExperts) for module in model.modules())
        return [
            conversion
            for conversion in weight_conversions
            if not (has_experts and any(target.endswith(fused) for target in conversion.target_patterns))
        ]

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        for name, module in model.named_modules():
            if isinstance(module, PackedLinear) and module.weight.device.type != "meta":
                module.check_stored(self.names_in_files.get(name, name))
                if stacked_part(name) is None:
                    module.prepare(model.dtype)
        own_parameters(model)
        release_freed()
        if is_peft_available():
            _tell_peft()
        return model

    def _dequantize(self, model: Any, dtype: Any = None) -> Any:
        raise NotImplementedError("packed layers are not made dense in memory; `srr export --to merged` writes Q + L·R")

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """State dicts hold the tensors of the file, so saving writes them again."""
        return True

    def _packed_like(self, module: nn.Module, file_name: str) -> PackedLinear:
        if isinstance(module, nn.Linear):
            in_features, out_features = module.in_features, module.out_features
        elif isinstance(module, Conv1D):
            in_features, out_features = module.nx, module.nf
        else:
            raise CheckpointError(f"a packed weight belongs to a {type(module).__name__}, not to a linear layer")
        return self._packed(
            module.weight, in_features, out_features, file_name=file_name, has_bias=module.bias is not None
        )

    def _packed(
        self, like: Tensor, in_features: int, out_features: int, *, file_name: str, has_bias: bool = False
    ) -> PackedLinear:
        config = self.quantization_config
        return PackedLinear(
            config.marker.codec(file_name),
            in_features,
            out_features,
            bias=has_bias,
            dtype=like.dtype,
            device=like.device,
            widen=config.widen,
            native=config.native,
        )

    @property
    def is_trainable(self) -> bool:
        """Adapters may be trained on top; the codes themselves have no gradient."""
        return True


def refuse_disk(device_map: Any) -> None:
    """Raise ValueError for a `device_map` that sends layers to disk: accelerate would read codes back as numbers."""
    if isinstance(device_map, Mapping) and "disk" in device_map.values():
        raise ValueError("packed layers cannot be offloaded to disk; map them to a device or to the CPU")


def match_modules(model: PreTrainedModel, file_names: Iterable[str]) -> dict[str, str]:
    """Return, by name in the model, the name in the file of every packed module the model has; experts left out.

    One name may end with the other, so a model without its head finds its layers too; a vision tower whose blocks
    are called like those of the language model does not.

    Raises:
        CheckpointError: the model has none of them, or a packed weight belongs to another kind of module.
    """
    by_tail: dict[str, list[str]] = {}
    for name in file_names:
        if not is_expert(name):
            by_tail.setdefault(_tail(name), []).append(name)
    candidates = ((name, file) for name, _ in model.named_modules() for file in by_tail.get(_tail(name), ()))
    found = {name: file for name, file in candidates if same_module(name, file)}
    missing = sorted({name for names in by_tail.values() for name in names} - set(found.values()))
    if missing:
        found |= _renamed(model, missing)
        missing = [name for name in missing if name not in found.values()]
    if missing:
        raise CheckpointError(f"{type(model).__name__} has no module for the packed weight of {missing[0]}")
    return found


def _renamed(model: PreTrainedModel, file_names: Iterable[str]) -> dict[str, str]:
    """Return, by name in the model, the names in the file that loaders rename to them."""
    places = Places(model)
    placements = {name: places(f"{name}.weight") for name in file_names}
    return {place.parameter.removesuffix(".weight"): name for name, place in placements.items() if place is not None}


def register() -> None:
    """Put our configuration and quantizer into transformers' tables; a second call changes nothing."""
    if MARKER not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        register_quantization_config(MARKER)(PackedConfig)
        register_quantizer(MARKER)(PackedQuantizer)
        AUTO_QUANTIZATION_CONFIG_MAPPING[COMPRESSED_TENSORS] = CompressedTensorsOrPackedConfig


def _tell_peft() -> None:
    from srr_core.runtime.fused_adapter import register_fused_adapter  # noqa: PLC0415  # peft is optional

    register_fused_adapter()


def same_module(name: str, other: str) -> bool:
    """Whether two paths are of one module, seen from models of which one may lack the head of the other."""
    return _ends_with(name, other) or _ends_with(other, name)


def _ends_with(path: str, end: str) -> bool:
    return f".{path}".endswith(f".{end}")


def _tail(name: str) -> str:
    match = _FROM_BLOCK.search(name)
    return match.group(1) if match else name
