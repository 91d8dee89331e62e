"""PEFT told to let a packed layer add L·R in its own pass, and to keep less for the gradients of the factors.

PEFT's layer computes x·Qᵀ and then adds L·(R·x) by itself. Ours differs only where one plain adapter is active, and
then either gradients are recorded or the path of the packed layer says `fuses_low_rank`; everything else is PEFT's own
code.
"""

import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, cast

import torch
from jaxtyping import Float
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners import lora
from torch import Tensor, nn
from typing_extensions import override

from srr_core.runtime.experts import Factors, PackedExperts
from srr_core.runtime.linear import PackedLinear
from srr_core.runtime.trained_product import corrected_product

_HOW_TO_TUNE = (
    "either model.add_adapter(config, adapter_name='tuned') and model.set_adapter(['default', 'tuned']), training what "
    "has '.tuned.' in its name, or tune the dense model that `srr export --to merged` writes"
)


class FusedLinear(lora.Linear):
    """PEFT's LoRA layer over a PackedLinear: same parameters, same state, one pass less."""

    @override
    def forward(self, x: Float[Tensor, "... in"], *args: Any, **kwargs: Any) -> Float[Tensor, "... out"]:
        """Return x·(Q + L·R)ᵀ + b in the dtype of x, with L·R of the adapters that are active."""
        # Arguments choose an adapter for each sample, or belong to a variant of LoRA.
        adapter = None if args or kwargs else self._plain_adapter(x)
        layer = cast(PackedLinear, self.base_layer)
        # A base whose scales learn stands in a packed one's place, and has a product of its own.
        is_packed = isinstance(layer, PackedLinear)
        is_recorded = is_packed and torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type)
        is_fused = not torch.is_grad_enabled() and layer.path is not None and layer.path.fuses_low_rank
        if adapter is None or not (is_recorded or is_fused):
            y: Tensor = super().forward(x, *args, **kwargs)
            return y
        right, left = cast(nn.Linear, self.lora_A[adapter]), cast(Tensor, self.lora_B[adapter].weight)
        scaling = self.scaling[adapter]
        if is_recorded:
            return corrected_product(layer, x, right.weight, left.to(right.weight.dtype), scaling)
        shared = right(self._cast_input_dtype(x, right.weight.dtype)) * scaling
        return cast(Tensor, layer(x, shared=shared, left=left.to(shared.dtype)))

    def _plain_adapter(self, x: Tensor) -> str | None:
        """Return the one active adapter if there is nothing about it but two matrices, else None."""
        if self.disable_adapters or self.merged:
            return None
        active = [name for name in self.active_adapters if name in self.lora_A]
        if len(active) != 1:
            return None
        (name,) = active
        is_plain = (
            name not in self.lora_variant
            and not self.lora_bias[name]
            and isinstance(self.lora_dropout[name], nn.Identity)
        )
        # accelerate keeps the factors of an offloaded layer elsewhere until PEFT calls them.
        return name if is_plain and self.lora_B[name].weight.device == x.device else None


class PackedExpertsAdapter(lora.ParamWrapper):
    """PEFT's adapter of a fused parameter, over packed experts: same parameters and state, no matrix L·R.

    PEFT keeps row `expert * rank + k` of R and column `k * experts + expert` of L for one expert.
    """

    @override
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return what the experts return, with the factors of the active adapters."""
        if not self.disable_adapters:
            active = [self._factors(name) for name in self.active_adapters if name in self.lora_A]
            kwargs[self.parameter_name] = active
        y: Tensor = self.base_layer(x, *args, **kwargs)
        return y

    @override
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse. Raises TypeError."""
        raise TypeError(
            "the experts are packed, so L·R cannot be merged into them in memory; `srr export --to merged` writes it"
        )

    def _factors(self, adapter: str) -> Factors:
        right, left = (cast(Tensor, part[adapter].weight) for part in (self.lora_A, self.lora_B))
        return Factors(
            right.reshape(self.num_experts, -1, right.shape[-1]),
            left.reshape(left.shape[0], -1, self.num_experts).permute(2, 0, 1),
            self.scaling[adapter],
        )


class PackedLoraModel(lora.LoraModel):
    """Stands in PEFT's table for LoRA: packed layers and experts get ours, all others what they would get anyway.

    Raises:
        ValueError: a new adapter has the name of L·R, which PEFT would overwrite with a fresh one.
    """

    def __init__(self, model: nn.Module, config: Any, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        held = _corrections(model)
        if adapter_name in held:
            raise ValueError(
                f"the adapter {adapter_name!r} is the model's L·R and would be overwritten; {_HOW_TO_TUNE}"
            )
        super().__init__(model, config, adapter_name, *args, **kwargs)
        # `get_peft_model` and `PeftModel` hand over a table of configurations, transformers' `add_adapter` one of them.
        if held and isinstance(config, dict):
            warnings.warn(f"L·R ({held[0]!r}) is not active beside {adapter_name!r}; {_HOW_TO_TUNE}", stacklevel=2)

    @override
    def _inject_parameters(
        self, peft_config: Any, model: nn.Module, adapter_name: str, low_cpu_mem_usage: bool
    ) -> list[str]:
        packed = [name for name, module in model.named_modules() if _is_packed(module)]
        by_weight = [name for name in packed if _is_target(f"{name}.weight", peft_config.target_parameters)]
        for name in by_weight:
            self._attach(peft_config, adapter_name, model, name)
        try:
            with ExitStack() as shown:
                for module in list(model.modules()):
                    if isinstance(module, PackedExperts):
                        shown.enter_context(module.showing_fused_parameters())
                    elif isinstance(module, PackedExpertsAdapter):
                        module.__class__ = lora.ParamWrapper  # type: ignore[assignment]  # PEFT nests what has that name
                names: list[str] = super()._inject_parameters(peft_config, model, adapter_name, low_cpu_mem_usage)
        finally:
            for module in model.modules():
                if type(module) is lora.ParamWrapper and isinstance(module.get_base_layer(), PackedExperts):
                    module.__class__ = PackedExpertsAdapter
        return [*names, *(f"{name}.weight" for name in by_weight)]

    def _attach(self, peft_config: Any, adapter_name: str, model: nn.Module, name: str) -> None:
        """Attach to a packed layer that is named by its weight, which as codes PEFT could not wrap."""
        parent, _, leaf = name.rpartition(".")
        target, owner = model.get_submodule(name), model.get_submodule(parent)
        self._create_and_replace(peft_config, adapter_name, target, leaf, owner, current_key=name)

    @staticmethod
    @override
    def _create_new_module(lora_config: Any, adapter_name: str, target: nn.Module, **kwargs: Any) -> nn.Module:
        create = lora.LoraModel._create_new_module  # noqa: SLF001  # a static method, so there is no super() for it
        module: nn.Module = create(lora_config, adapter_name, target, **kwargs)  # type: ignore[no-untyped-call]  # PEFT's
        if type(module) is lora.Linear and isinstance(module.base_layer, PackedLinear):
            module.__class__ = FusedLinear
        return module


def _corrections(model: nn.Module) -> list[str]:
    """Return the adapters of a model that are no fresh ones: loaded to infer with, as L·R is."""
    configs = getattr(model, "peft_config", None) or {}
    packed = [module for module in model.modules() if isinstance(module, FusedLinear | PackedExpertsAdapter)]
    return [
        name
        for name, config in configs.items()
        if config.inference_mode and any(name in module.lora_A for module in packed)
    ]


def _is_packed(module: nn.Module) -> bool:
    return isinstance(module, PackedLinear) or (
        isinstance(module, lora.Linear) and isinstance(module.base_layer, PackedLinear)
    )


def _is_target(parameter: str, targets: Iterable[str]) -> bool:
    return f".{parameter}".endswith(tuple(f".{target}" for target in targets))


def register_fused_adapter() -> None:
    """Put our model into PEFT's table; a second call changes nothing."""
    PEFT_TYPE_TO_TUNER_MAPPING[PeftType.LORA] = PackedLoraModel
