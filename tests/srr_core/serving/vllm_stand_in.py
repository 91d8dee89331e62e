"""The interfaces of vLLM 0.33.0 that the plugin uses, as modules that can stand in for it; read in its wheel.

Kept: the order of `__init__` and `create_weights` in linear layers, what attributes a layer has by then, how names of
fused layers are found, the table of quantization configurations, and that a configuration goes from process to process
by pickle. Q is computed from `weight`, dense: kernels are vLLM's business, and test_vllm_itself.py runs the real thing.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

QUANTIZATION_METHODS = ["compressed-tensors"]
CONFIGS: dict[str, type] = {}
WEIGHT_LOADER_V2_SUPPORTED = ["CompressedTensorsLinearMethod"]


def register_quantization_config(quantization: str) -> Callable[[type], type]:
    """As vLLM's: the name joins the table, custom configurations win over built-in ones."""

    def wrap(config: type) -> type:
        if quantization not in QUANTIZATION_METHODS:
            QUANTIZATION_METHODS.append(quantization)
        if not issubclass(config, CompressedTensorsConfig):
            raise ValueError("The quantization config must be a subclass of `QuantizationConfig`.")
        CONFIGS[quantization] = config
        return config

    return wrap


def register_weight_loader_v2_supported_method(method: type) -> type:
    """As vLLM's: loaders are chosen by the name of the class."""
    WEIGHT_LOADER_V2_SUPPORTED.append(method.__name__)
    return method


class CompressedTensorsConfig:
    """compressed-tensors' configuration: every linear layer that is not ignored is quantized."""

    def __init__(self, target_scheme_map: dict[str, Any], ignore: list[str], quant_format: str) -> None:
        self.target_scheme_map, self.ignore, self.quant_format = target_scheme_map, ignore, quant_format
        self.packed_modules_mapping: dict[str, list[str]] = {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CompressedTensorsConfig":
        return cls({"Linear": {}}, list(config.get("ignore", [])), str(config.get("format")))

    @classmethod
    def override_quantization_method(
        cls, hf_quant_cfg: dict[str, Any], user_quant: str | None, hf_config: object = None
    ) -> str | None:
        return None

    def maybe_update_config(self, model_name: str, hf_config: object = None, revision: str | None = None) -> None:
        return

    def apply_vllm_mapper(self, hf_to_vllm_mapper: Any) -> None:
        self.ignore = hf_to_vllm_mapper.apply_list(self.ignore)

    def get_quant_method(self, layer: nn.Module, prefix: str) -> Any:
        if isinstance(layer, RoutedExperts):
            return object()
        if not isinstance(layer, LinearBase):
            return None
        return UnquantizedLinearMethod() if prefix in self.ignore else CompressedTensorsLinearMethod(self)


class UnquantizedLinearMethod:
    """A layer that stays dense."""

    def create_weights(self, layer: nn.Module, **_: Any) -> None:
        layer.weight = nn.Parameter(torch.empty(sum(layer.output_partition_sizes), layer.input_size_per_partition))

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return linear(x, layer.weight, bias)


class CompressedTensorsLinearMethod(UnquantizedLinearMethod):
    """A quantized layer; its weight is what the codes decode to."""

    def __init__(self, quantization_config: CompressedTensorsConfig) -> None:
        self.quantization_config = quantization_config

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        return


class LinearBase(nn.Module):
    """A linear layer of one process; `output_sizes` of fused layers are set before."""

    output_sizes: list[int]

    def __init__(
        self,
        input_size: int,
        output_sizes: list[int],
        config: CompressedTensorsConfig,
        prefix: str,
        *,
        tp_rank: int = 0,
        tp_size: int = 1,
        cuts_inputs: bool = False,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, sum(output_sizes)
        self.tp_rank, self.tp_size = tp_rank, tp_size
        self.params_dtype = torch.float32
        self.input_size_per_partition = input_size // tp_size if cuts_inputs else input_size
        self.output_partition_sizes = [size if cuts_inputs else size // tp_size for size in output_sizes]
        if len(output_sizes) > 1:
            self.output_sizes = output_sizes
        self.quant_method = config.get_quant_method(self, prefix)
        self.quant_method.create_weights(layer=self)

    def forward(self, x: Tensor) -> Tensor:
        return self.quant_method.apply(self, x, None)  # type: ignore[no-any-return]


class RoutedExperts(nn.Module):
    """The experts of one layer."""


@dataclass
class PEFTHelper:
    """What vLLM reads of an adapter_config.json."""

    r: int = 8
    rank_pattern: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_local_dir(cls, lora_path: str, max_position_embeddings: int | None) -> "PEFTHelper":
        assert (Path(lora_path) / "adapter_config.json").is_file()
        return cls()


def download_weights_from_hf(
    model: str, cache_dir: str | None, allow_patterns: list[str], revision: str | None = None
) -> str:
    """A repository that lies in a folder of its name and revision, beside the working directory."""
    assert allow_patterns == ["adapter_model.safetensors"]
    return str(Path.cwd() / model.replace("/", "--") / (revision or "main"))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the plugin imports from; undone with the test."""
    layers = "vllm.model_executor.layers"
    parts: dict[str, dict[str, object]] = {
        "vllm.lora.peft_helper": {"PEFTHelper": type("PEFTHelper", (PEFTHelper,), {})},
        f"{layers}.fused_moe": {"RoutedExperts": RoutedExperts},
        f"{layers}.linear": {
            "LinearBase": LinearBase,
            "register_weight_loader_v2_supported_method": register_weight_loader_v2_supported_method,
        },
        f"{layers}.quantization": {
            "QUANTIZATION_METHODS": QUANTIZATION_METHODS,
            "register_quantization_config": register_quantization_config,
        },
        f"{layers}.quantization.compressed_tensors.compressed_tensors": {
            "CompressedTensorsConfig": CompressedTensorsConfig,
            "CompressedTensorsLinearMethod": CompressedTensorsLinearMethod,
        },
        "vllm.model_executor.model_loader.weight_utils": {"download_weights_from_hf": download_weights_from_hf},
    }
    CONFIGS.clear()
    del QUANTIZATION_METHODS[1:], WEIGHT_LOADER_V2_SUPPORTED[1:]
    for name, contents in parts.items():
        words = name.split(".")
        for depth in range(1, len(words) + 1):
            parent = ".".join(words[:depth])
            if not isinstance(sys.modules.get(parent), _StandIn):
                monkeypatch.setitem(sys.modules, parent, _StandIn(parent))
        vars(sys.modules[name]).update(contents)
    # The plugin's second half binds what it imports from vLLM, so every test reads it anew.
    monkeypatch.delitem(sys.modules, "srr_core.serving.vllm_layers", raising=False)
    monkeypatch.delattr("srr_core.serving.vllm_layers", raising=False)


class _StandIn(ModuleType):
    """A module of the stand-in."""
