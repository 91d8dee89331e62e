"""vLLM's compressed-tensors layers with L·R added inside, and what claims our artifacts for them.

Interfaces are those of vLLM 0.33.0: `QuantizationConfig` (claimed by `override_quantization_method`, which is asked of
configurations from outside first), `CompressedTensorsConfig`, `CompressedTensorsLinearMethod`, the names of fused
layers in `packed_modules_mapping`, and the shapes that `create_weights` is given. L and R are read by ourselves when a
layer's own weights are complete, because the loader takes only the files that the index names.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override
from vllm.lora.peft_helper import PEFTHelper
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.linear import LinearBase, register_weight_loader_v2_supported_method
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, register_quantization_config
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
    CompressedTensorsLinearMethod,
)
from vllm.model_executor.model_loader.weight_utils import download_weights_from_hf

from srr_core.checkpoint.artifact_names import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_FILE,
    ADAPTER_PREFIX,
    BARE,
    COMPRESSED_TENSORS,
    CONFIG_FILE,
    MARKER,
    MARKER_VERSION,
    PATHS,
    RIGHT_SUFFIX,
)
from srr_core.checkpoint.header import read_header
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.serving.low_rank import Place, Run, apply_low_rank, read_low_rank

METHOD = "srr-compressed-tensors"
"""Under which name vLLM keeps our configuration; config.json never holds it."""
_EXPERTS = ".experts"
"""In the names of layers that hold L·R of experts; shared experts are called otherwise."""
_AS_LORA = (
    "serve it with `--quantization compressed-tensors --enable-lora --max-lora-rank N --lora-modules NAME=REPOSITORY`, "
    "where the card says which N"
)


@register_weight_loader_v2_supported_method
class LowRankLinearMethod(CompressedTensorsLinearMethod):  # type: ignore[misc]  # vLLM is not installed beside our torch
    """Q by whatever kernel vLLM chose, plus (x·R)·L. Under tensor parallelism each process adds its own share."""

    def __init__(self, quantization_config: "LowRankConfig", modules: tuple[str | None, ...]) -> None:
        super().__init__(quantization_config)
        self._modules = modules
        self._runs: tuple[Run, ...] = ()

    @override
    def process_weights_after_loading(self, layer: Any) -> None:
        """Let the kernel repack Q, then read this layer's L and R to the same device.

        Raises:
            ValueError: the adapter does not fit the layer.
        """
        device = next(layer.parameters()).device
        super().process_weights_after_loading(layer)
        factors = read_low_rank(self.quantization_config.adapter(), self._modules, _place(layer))
        self._runs = factors.runs
        for name, tensor in (("low_rank_left", factors.left), ("low_rank_right", factors.right)):
            # Buffers, which vLLM keeps through its sleep mode and does not look for in the checkpoint.
            held = tensor.to(device=device, dtype=layer.params_dtype).contiguous()
            layer.register_buffer(name, held, persistent=False)

    @override
    def apply(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x·(Q + L·R) + bias."""
        output: Tensor = super().apply(layer, x, bias)
        return output + apply_low_rank(x, layer.low_rank_left, layer.low_rank_right, self._runs)


class LowRankConfig(CompressedTensorsConfig):  # type: ignore[misc]  # as above
    """compressed-tensors as vLLM reads it, for artifacts whose marker says that L·R belongs to Q."""

    is_serving: ClassVar[bool] = False
    """Whether a layer of this process has its L·R inside."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._model: tuple[str, str | None] | None = None
        self._names: dict[str, str] | None = None
        self._mappers: list[Any] = []
        self._marker: Mapping[str, Any] = {}

    @classmethod
    @override
    def from_config(cls, config: dict[str, Any]) -> "LowRankConfig":
        """Return the configuration, with our entry in it: which layers have no L·R, and what is called otherwise."""
        made: LowRankConfig = super().from_config(config)
        made._marker = config.get(MARKER) or {}  # of the same class
        return made

    @classmethod
    @override
    def override_quantization_method(
        cls, hf_quant_cfg: Mapping[str, Any], user_quant: str | None, hf_config: object = None
    ) -> str | None:
        """Claim an artifact of ours that has L·R, unless the user asked for another method by name."""
        marker = hf_quant_cfg.get(MARKER)
        is_claimed = (
            user_quant in (None, METHOD)
            and hf_quant_cfg.get("quant_method") == COMPRESSED_TENSORS
            and isinstance(marker, Mapping)
            and marker.get("version") == MARKER_VERSION
        )
        return METHOD if is_claimed and marker is not None and marker.get("rank") else None

    @override
    def maybe_update_config(
        self, model_name: str, hf_config: object = None, revision: str | None = None, **kwargs: Any
    ) -> None:
        """Remember which repository or folder is served; processes on other machines find the adapter by it."""
        super().maybe_update_config(model_name, hf_config=hf_config, revision=revision, **kwargs)
        self._model = (model_name, revision)

    @override
    def apply_vllm_mapper(self, hf_to_vllm_mapper: Any) -> None:
        """Take over how vLLM renames the modules of a checkpoint."""
        super().apply_vllm_mapper(hf_to_vllm_mapper)
        self._mappers.append(hf_to_vllm_mapper)
        self._names = None

    @override
    def get_quant_method(self, layer: Any, prefix: str) -> Any:
        """Return vLLM's own method, with L·R around it where the layer is quantized.

        Raises:
            ValueError: a quantized layer without L·R in the adapter.
            NotImplementedError: a mixture of experts, whose L·R vLLM can hold as a LoRA only.
        """
        method = super().get_quant_method(layer, prefix)
        if isinstance(layer, RoutedExperts) and any(_EXPERTS in name for name in self._module_names()):
            raise NotImplementedError(f"{prefix}: the srr plugin does not add L·R to experts yet; {_AS_LORA}")
        if type(method) is not CompressedTensorsLinearMethod or not isinstance(layer, LinearBase):
            return method
        owner, _, last = prefix.rpartition(".")
        parts = self.packed_modules_mapping.get(last, [last])
        wanted = [f"{owner}.{part}" if owner else part for part in parts]
        names = self._module_names()
        bare = {self._renamed(name) for name in self._marker.get(BARE, ())}
        missing = [name for name in wanted if name not in names and name not in bare]
        if missing:
            raise ValueError(
                f"{ADAPTER_FILE}: has no L·R for {missing[0]}, so the srr plugin cannot serve it; {_AS_LORA}"
            )
        LowRankConfig.is_serving = True
        found = tuple(names.get(name) for name in wanted)
        return LowRankLinearMethod(self, found) if any(found) else method

    def adapter(self) -> Mapping[str, Tensor]:
        """Return the tensors of L and R, opened once a process.

        Raises:
            RuntimeError: vLLM has not said which model it serves.
        """
        if self._model is None:
            raise RuntimeError("vLLM did not say which model it serves, so L·R cannot be found")
        return _open_adapter(*self._model)

    def _module_names(self) -> dict[str, str]:
        """Return the layers of the adapter: from vLLM's name to the one in the file."""
        if self._names is None:
            names = {}
            stored = {path: name for name, path in self._marker.get(PATHS, {}).items()}
            for tensor in self.adapter():
                if tensor.startswith(ADAPTER_PREFIX) and tensor.endswith(RIGHT_SUFFIX):
                    module = tensor.removeprefix(ADAPTER_PREFIX).removesuffix(RIGHT_SUFFIX)
                    names[self._renamed(stored.get(module, module))] = module
            self._names = names
        return self._names

    def _renamed(self, module: str) -> str:
        for mapper in self._mappers:
            module = next(iter(mapper.apply_list([module])), module)
        return module


def register() -> None:
    """Put our configuration into vLLM's table, and refuse L·R as a LoRA where the layers hold it already."""
    if METHOD not in QUANTIZATION_METHODS:
        register_quantization_config(METHOD)(LowRankConfig)
        _refuse_twice()


def _refuse_twice() -> None:
    """Wrap the one place where vLLM opens a LoRA: an artifact's own adapter on top of itself would count twice."""
    original = PEFTHelper.from_local_dir.__func__

    def from_local_dir(cls: type, lora_path: str, *args: Any, **kwargs: Any) -> Any:
        if LowRankConfig.is_serving and _is_own_adapter(Path(lora_path)):
            raise ValueError(
                f"{lora_path}: this is the L·R of an artifact, which the srr plugin has put into the layers already; "
                "leave it out of --lora-modules"
            )
        return original(cls, lora_path, *args, **kwargs)

    PEFTHelper.from_local_dir = classmethod(from_local_dir)


def _is_own_adapter(folder: Path) -> bool:
    if not (folder / CONFIG_FILE).is_file() or not (folder / ADAPTER_CONFIG_FILE).is_file():
        return False
    stated = read_json(folder / CONFIG_FILE).get("quantization_config")
    return isinstance(stated, dict) and MARKER in stated


def _place(layer: Any) -> Place:
    part_rows = tuple(int(rows) for rows in layer.output_partition_sizes)
    processes = int(layer.tp_size)
    if processes == 1:
        full_rows = part_rows
    elif hasattr(layer, "total_num_kv_heads"):
        value_size = getattr(layer, "v_head_size", layer.head_size)
        keys = layer.total_num_kv_heads
        full_rows = (layer.total_num_heads * layer.head_size, keys * layer.head_size, keys * value_size)
    else:
        full_rows = tuple(getattr(layer, "output_sizes", (layer.output_size,)))
    return Place(
        part_rows=part_rows,
        full_rows=full_rows,
        columns=int(layer.input_size_per_partition),
        process=int(layer.tp_rank),
        num_processes=processes,
    )


@lru_cache(maxsize=4)
def _open_adapter(model: str, revision: str | None) -> Mapping[str, Tensor]:
    folder = Path(model)
    if not folder.is_dir():
        folder = Path(download_weights_from_hf(model, None, [ADAPTER_FILE], revision))
    return CheckpointReader(folder, entries=read_header(folder / ADAPTER_FILE))
