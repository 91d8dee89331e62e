"""Experts of a mixture, every projection a packed layer, in place of the dense parameters transformers fuses them into.

The adapter of a fused parameter has one R and one L for all experts; each expert uses its own part of them, so that L·R
is never a matrix either, in inference and in training.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from srr_core.checkpoint.expert_names import DOWN, FORMS, GATE_UP, UP, expert_name
from srr_core.errors import CheckpointError
from srr_core.models.placement import Places
from srr_core.runtime.linear import PackedLinear

_PLAIN_LAYOUT = {
    "has_bias": False,
    "is_transposed": False,
    "is_concatenated": True,
    "has_post_expert_norm": False,
}

Build = Callable[[int, int], PackedLinear]


@dataclass(frozen=True)
class Factors:
    """L·R of one fused parameter, all experts: R [experts, rank, in], L [experts, out, rank] without its scaling."""

    right: Float[Tensor, "experts rank in"]
    left: Float[Tensor, "experts out rank"]
    scaling: float


class PackedExperts(nn.Module):
    """The experts of one layer. Children are named as in the files: `<expert>.<projection>`."""

    is_transposed = False  # asked for by PEFT

    def __init__(self, dense: nn.Module, names: tuple[str, ...], build: Build) -> None:
        """Take the place of a dense module, whose parameters are dropped.

        Args:
            dense: The fused experts of a stock model, on the meta device.
            names: Of gate, up and down on disk; of up and down where the mixture has no gates.
            build: Makes a packed layer of (in, out) features.
        Raises:
            CheckpointError: the module multiplies its experts in another way than gate, up and down.
        """
        super().__init__()
        fused = dict(dense.named_parameters(recurse=False))
        is_other = any(getattr(dense, name, None) != value for name, value in _PLAIN_LAYOUT.items())
        has_gate = bool(getattr(dense, "has_gate", True))
        self._first = GATE_UP if has_gate else UP
        if is_other or fused.keys() != {self._first, DOWN} or len(names) != 2 + has_gate:
            raise CheckpointError(f"the experts of {type(dense).__name__} are more than gate, up and down")
        self._names = names
        self._shapes = {name: parameter.shape for name, parameter in fused.items()}
        self._dtype = fused[DOWN].dtype
        self.num_experts, hidden, inner = fused[DOWN].shape
        # Only the rule of the stock module is kept: how gate and up become one.
        stock = cast(Any, dense)
        self._gated: Callable[[Tensor], Tensor] = stock._apply_gate if has_gate else stock.act_fn  # noqa: SLF001  # no public name
        for name in fused:
            delattr(dense, name)
        sizes_of = (*((hidden, inner) for _ in names[:-1]), (inner, hidden))
        for index in range(self.num_experts):
            expert = nn.Module()
            for name, sizes in zip(names, sizes_of, strict=True):
                expert.add_module(name, build(*sizes))
            self.add_module(str(index), expert)

    @override
    def forward(
        self,
        hidden_states: Float[Tensor, "tokens hidden"],
        top_k_index: Int[Tensor, "tokens k"],
        top_k_weights: Float[Tensor, "tokens k"],
        **factors: Sequence[Factors],
    ) -> Float[Tensor, "tokens hidden"]:
        """Return the weighted sum of the experts each token is sent to, corrected by the factors of both parameters."""
        total = torch.zeros_like(hidden_states)
        for index in torch.bincount(top_k_index.flatten()).nonzero().flatten().tolist():
            if index >= self.num_experts:  # what an expert of another device is numbered as
                continue
            token, place = torch.where(top_k_index == index)
            x = hidden_states[token]
            *before, down = self._projections(index)
            rows = cast(int, before[0].out_features)
            first = [_for_expert(each, index, x) for each in factors.get(self._first, ())]
            outputs = [
                _corrected(layer, x, [(shared, left[part * rows : (part + 1) * rows]) for shared, left in first])
                for part, layer in enumerate(before)
            ]
            inner = self._gated(torch.cat(outputs, dim=-1))
            y = _corrected(down, inner, [_for_expert(each, index, inner) for each in factors.get(DOWN, ())])
            total.index_add_(0, token, (y * top_k_weights[token, place, None]).to(total.dtype))
        return total

    @contextmanager
    def showing_fused_parameters(self) -> Iterator[None]:
        """Have the fused parameters as PEFT looks for them, without memory, inside this scope."""
        for name in self._shapes:
            self._parameters[name] = self._stand_in(name)
        try:
            yield
        finally:
            for name in self._shapes:
                del self._parameters[name]

    def __getattr__(self, name: str) -> Any:
        """Answer for the fused parameters, of which PEFT asks shape, dtype and device."""
        if name in (GATE_UP, UP, DOWN) and name in self.__dict__.get("_shapes", ()):
            return self._stand_in(name)
        return self._stand_in(DOWN) if name == "weight" else super().__getattr__(name)

    def _stand_in(self, name: str) -> nn.Parameter:
        anchor = cast(PackedLinear, self._projections(0)[0]).weight
        zero = torch.zeros((), dtype=self._dtype, device=anchor.device)
        return nn.Parameter(zero.expand(self._shapes[name]), requires_grad=False)

    def _projections(self, index: int) -> list[nn.Module]:
        expert = self._modules[str(index)]
        assert expert is not None  # noqa: S101  # made in __init__
        return [expert.get_submodule(name) for name in self._names]


def pack_experts(
    model: PreTrainedModel, file_modules: Iterable[str], build: Callable[..., PackedLinear]
) -> dict[str, str]:
    """Replace the fused experts of a model by packed ones.

    Returns:
        By name in the model, the name of every projection in the files.
    Args:
        file_modules: Packed modules of the files, experts or not.
        build: Makes a packed layer of (in, out) features on the device of a tensor.
    Raises:
        CheckpointError: the model has no such experts, or some of a layer's are not packed.
    """
    found: dict[str, set[str]] = {}
    for name in file_modules:
        part = expert_name(name)
        if part is not None:
            found.setdefault(part.owner, set()).add(part.projection)
    packed: dict[str, str] = {}
    places = Places(model)
    for owner, projections in found.items():
        names = next((names for names in FORMS if set(names) == projections), None)
        path = _module_path(places, owner, projections)
        if names is None or path is None:
            raise CheckpointError(f"{type(model).__name__} has no experts for the packed weights of {owner}")
        dense = model.get_submodule(path)
        like = next(dense.parameters())
        # Experts of one mixture share a quantizer, so the name of any of them will do.
        experts = PackedExperts(dense, names, functools.partial(build, like, file_name=f"{owner}.0.{names[0]}"))
        model.set_submodule(path, experts)
        for index in range(experts.num_experts):
            packed |= {f"{path}.{index}.{name}": f"{owner}.{index}.{name}" for name in names}
    return packed


def _module_path(places: Places, owner: str, projections: Iterable[str]) -> str | None:
    """Return where the experts of a checkpoint are in a model, which may be one without its head."""
    found = places(f"{owner}.0.{min(projections)}.weight")
    return None if found is None else found.parameter.rpartition(".")[0]


def _for_expert(factors: Factors, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x·Rᵀ, scaled, and L of one expert, in the dtype of the factors."""
    right = factors.right[index]
    return x.to(right.dtype) @ right.t() * factors.scaling, factors.left[index]


def _corrected(layer: nn.Module, x: Tensor, low_rank: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    if len(low_rank) == 1 and isinstance(layer, PackedLinear) and not torch.is_grad_enabled():
        ((shared, left),) = low_rank
        fused: Tensor = layer(x, shared=shared, left=left)
        return fused
    y: Tensor = layer(x)
    for shared, left in low_rank:
        y = y + (shared @ left.t()).to(y.dtype)
    return y
