"""A stacked parameter whose matrices stay packed, each with its L·R, in a module that knows nothing of it.

The stock module of the experts runs unchanged: where it takes one matrix by its number, that one is made dense for the
product, and where it takes the parameter as a whole, all are. Slower than packed products, and right for every way in
which a class may gate, bias, turn or interleave its experts.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from srr_core.checkpoint.artifact_names import STACKED_LEFT, STACKED_RIGHT
from srr_core.checkpoint.expert_names import stacked_part
from srr_core.checkpoint.header import TensorEntry
from srr_core.errors import CheckpointError
from srr_core.runtime.linear import PackedLinear

Build = Callable[..., PackedLinear]
"""Makes a packed layer on the device of a tensor, of (in, out) features and with the name that the file has for it."""


class PackedStack(nn.Module):
    """Stands where a parameter [experts, rows, columns] was, and answers as a tensor of it."""

    def __init__(self, members: Iterable[PackedLinear], *, is_transposed: bool, dtype: torch.dtype) -> None:
        """Take matrices in their order.

        Args:
            is_transposed: The model holds each as [inputs, outputs].
            dtype: Of the parameter.
        """
        super().__init__()
        self.expert = nn.ModuleList(members)  # as `StackedPart.name` spells it
        self._is_transposed = is_transposed
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self.expert)

    def __getitem__(self, index: Any) -> Tensor:
        """Return what indexing the parameter returns; for one number only that matrix is made dense."""
        if isinstance(index, Tensor) and index.numel() == 1 and index.dtype != torch.bool:
            return self._matrix(int(index)).reshape(*index.shape, *self.shape[1:])
        return self._matrix(index) if isinstance(index, int) else self.dense()[index]

    def dense(self) -> Float[Tensor, "experts rows columns"]:
        """Return the whole parameter, Q + L·R, in its dtype."""
        return torch.stack([self._matrix(index) for index in range(len(self))])

    @property
    def shape(self) -> torch.Size:
        """Of the parameter."""
        first = cast(PackedLinear, self.expert[0])
        sides = (first.out_features, first.in_features)
        return torch.Size((len(self), *(sides[::-1] if self._is_transposed else sides)))

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameter."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Where the codes are."""
        return cast(PackedLinear, self.expert[0]).weight.device

    @torch.no_grad()
    def _matrix(self, index: int) -> Tensor:
        member = cast(PackedLinear, self.expert[index])
        left, right = member.get_parameter(STACKED_LEFT), member.get_parameter(STACKED_RIGHT)
        weight = (member.quantized().dequantize() + left.float() @ right.float()).to(self._dtype)
        return weight.mT if self._is_transposed else weight

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Let any function of torch see the dense parameter."""
        plain = [value.dense() if isinstance(value, PackedStack) else value for value in args]
        return func(*plain, **{k: v.dense() if isinstance(v, PackedStack) else v for k, v in (kwargs or {}).items()})

    @override
    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or not hasattr(Tensor, name):
                raise
        return getattr(self.dense(), name)

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        factor = cast(PackedLinear, self.expert[0]).get_parameter(STACKED_LEFT)
        self._dtype = fn(torch.empty(0, dtype=self._dtype, device=factor.device)).dtype
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def pack_stacks(
    model: nn.Module,
    entries: Mapping[str, TensorEntry],
    modules: Iterable[str],
    stacks: Mapping[str, bool],
    build: Build,
) -> dict[str, str]:
    """Replace stacked parameters of a model by packed ones.

    Returns:
        By name in the model, the name of every matrix in the files: the same.
    Args:
        entries: The tensors of the files.
        modules: The packed layers among them.
        stacks: Stacked parameters of the model, each with whether its matrices are [inputs, outputs].
        build: Makes a packed layer of (in, out) features on the device of a tensor.
    Raises:
        CheckpointError: the model has no such parameter, or a matrix of it is not packed.
    """
    found: dict[str, dict[int, str]] = {}
    for name in modules:
        part = stacked_part(name)
        if part is not None:
            found.setdefault(part.parameter, {})[part.index] = name
    for parameter, members in found.items():
        owner, _, leaf = parameter.rpartition(".")
        dense = dict(model.named_parameters()).get(parameter)
        if dense is None or dense.dim() != 3 or sorted(members) != list(range(dense.shape[0])):
            raise CheckpointError(
                f"{type(model).__name__} has no parameter {parameter} of {len(members)} packed experts"
            )
        is_transposed = stacks.get(parameter, False)
        out_features, in_features = dense.shape[:0:-1] if is_transposed else dense.shape[1:]
        layers = [build(dense, in_features, out_features, file_name=members[index]) for index in range(len(members))]
        for index, layer in enumerate(layers):
            _add_factors(layer, members[index], entries)
        delattr(model.get_submodule(owner), leaf)
        model.get_submodule(owner).add_module(leaf, PackedStack(layers, is_transposed=is_transposed, dtype=dense.dtype))
    return {name: name for members in found.values() for name in members.values()}


def _add_factors(layer: PackedLinear, name: str, entries: Mapping[str, TensorEntry]) -> None:
    """Give a matrix of a stack the parameters that its L·R is loaded into; of rank 0 where the files hold none."""
    right = entries.get(f"{name}.{STACKED_RIGHT}")
    rank = right.shape[0] if right is not None else 0
    device = layer.weight.device if rank else torch.device("cpu")
    for leaf, size in ((STACKED_LEFT, (layer.out_features, rank)), (STACKED_RIGHT, (rank, layer.in_features))):
        entry = entries.get(f"{name}.{leaf}")
        if rank and (entry is None or entry.shape != size or entry.dtype != torch.bfloat16):
            raise CheckpointError(f"tensor '{name}.{leaf}' is not the {list(size)} factor in bfloat16 that it must be")
        factor = torch.empty(size, dtype=torch.bfloat16, device=device)
        layer.register_parameter(leaf, nn.Parameter(factor, requires_grad=False))
