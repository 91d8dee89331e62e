"""A fingerprint of one compressed layer, so that a run need not hold its layers to check them at the end."""

import hashlib

import torch
from jaxtyping import Shaped
from torch import Tensor

from srr_core.formats.artifact_files import ADAPTER_DTYPE
from srr_core.types import QuantizedTensor

_INTEGER_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def layer_digest(
    quantized: QuantizedTensor, left: Shaped[Tensor, "out r"] | None, right: Shaped[Tensor, "r in"] | None
) -> str:
    """Return the SHA-256 of codes, scales and factors, whatever dtype or padding they are held in.

    Two layers have the same digest when their numbers are the same: integers are hashed in the
    smallest dtype that holds them, floats in float32, factors in bf16 without trailing zero ranks.
    """
    digest = hashlib.sha256(repr(tuple(quantized.shape)).encode())
    for name, tensor in sorted(quantized.tensors().items()):
        _update(digest, name, tensor)
    for name, factor in zip(("left", "right"), _trimmed(left, right), strict=True):
        _update(digest, name, factor)
    return digest.hexdigest()


def _trimmed(left: Tensor | None, right: Tensor | None) -> tuple[Tensor, Tensor]:
    if left is None or right is None:
        return torch.empty(0, 0), torch.empty(0, 0)
    left, right = left.detach().cpu().to(ADAPTER_DTYPE), right.detach().cpu().to(ADAPTER_DTYPE)
    used = torch.nonzero((left != 0).any(0) | (right != 0).any(1))
    rank = int(used.max()) + 1 if used.numel() else 0
    return (left[:, :rank], right[:rank]) if rank else (torch.empty(0, 0), torch.empty(0, 0))


def _update(digest: "hashlib._Hash", name: str, tensor: Tensor) -> None:
    canonical = _canonical(tensor.detach().cpu()).contiguous()
    digest.update(f"{name} {canonical.dtype} {tuple(canonical.shape)}".encode())
    if canonical.numel():
        digest.update(canonical.flatten().view(torch.uint8).numpy().data)


def _canonical(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point():
        # Adding zero turns -0.0 into 0.0, which a product of codes and scales cannot tell apart.
        return tensor.to(torch.float32) + 0.0
    if not tensor.numel():
        return tensor.to(torch.uint8)
    if tensor.dtype in (torch.bool, torch.uint16):
        tensor = tensor.to(torch.int32)  # torch has no minimum of these
    lowest, highest = int(tensor.min()), int(tensor.max())
    for dtype in _INTEGER_DTYPES:
        if torch.iinfo(dtype).min <= lowest and highest <= torch.iinfo(dtype).max:
            return tensor.to(dtype)
    raise AssertionError("int64 holds every integer tensor")  # pragma: no cover
