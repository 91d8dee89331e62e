"""A device that is told apart like a GPU and computes on the CPU: on it, what mixes devices fails as on a real one.

`install` changes the process for good, so tests use it in a process of its own.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.utils._device
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
DEVICE_INDEX = 0
_FACTORIES = ("tensor", "eye")
"""Functions of torch that fill a tensor behind the dispatcher's back."""


class MixedDevicesError(RuntimeError):
    """An operation was given tensors of the CPU and of the device."""


class PretendTensor(Tensor):
    """A tensor that says it is on the device, around the CPU tensor that holds its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "PretendTensor":
        """Wrap a tensor of the CPU."""
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device(),
        )
        made.held = held
        return made

    def data_ptr(self) -> int:
        """Return the address of the values, which tells tensors apart."""
        return self.held.data_ptr()

    def tolist(self) -> Any:
        """Return the values as Python numbers, which torch refuses for tensors that wrap another."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Compute on the CPU and say that the result is on the device."""
        return _dispatch(op, *args, **(kwargs or {}))


def device() -> torch.device:
    """Return the device, once it is installed."""
    return torch.device(NAME, DEVICE_INDEX)


def install() -> None:
    """Make the device known to torch, for the rest of the process."""
    _setup_privateuseone_for_python_backend(NAME)
    _library.fallback(_dispatch, "PrivateUse1")
    torch.utils._device._device_constructors()  # before they are replaced: they are found by identity
    for name in _FACTORIES:
        setattr(torch, name, _by_copying(getattr(torch, name)))


_library = torch.library.Library("_", "IMPL")


def _by_copying(factory: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(factory)
    def make(*args: Any, device: Any = None, **options: Any) -> Tensor:
        if device is None or torch.device(device).type != NAME:
            return factory(*args, device=device, **options)
        return factory(*args, device="cpu", **options).to(device)

    return make


def _dispatch(op: Any, *args: Any, **kwargs: Any) -> Any:
    operands = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    target = kwargs.get("device")
    if target is not None:
        stays_here = torch.device(target).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif op._schema.name in {"aten::copy_", "aten::_to_copy"}:
        stays_here = isinstance(args[0], PretendTensor)
    else:
        _require_one_device(op, operands)
        stays_here = True
    args_here, kwargs_here = pytree.tree_map_only(PretendTensor, lambda tensor: tensor.held, (args, kwargs))
    result = op(*args_here, **kwargs_here)
    if not stays_here:
        return result
    changed = kwargs.get("out", args[0] if _is_in_place(op) else None)
    return changed if changed is not None else pytree.tree_map_only(Tensor, _wrapped, result)


def _wrapped(tensor: Tensor) -> PretendTensor:
    return tensor if isinstance(tensor, PretendTensor) else PretendTensor(tensor)


def _is_in_place(op: Any) -> bool:
    return op._schema.name.endswith("_") and not op._schema.name.endswith("__")


def _require_one_device(op: Any, operands: Sequence[Tensor]) -> None:
    # CUDA takes numbers, which are tensors without a dimension, and indices from the CPU.
    strangers = [tensor for tensor in operands if not isinstance(tensor, PretendTensor) and tensor.dim()]
    if strangers and not op._schema.name.startswith("aten::index"):
        raise MixedDevicesError(f"{op} got tensors of the CPU beside those of the device: {strangers[0].shape}")
