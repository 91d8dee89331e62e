"""Weights that are stored as codes and scales, read as the numbers they stand for: 8-bit floats and integers, MXFP4 and
packed integers. Each is decoded when it is asked for, to bfloat16, as stock loaders do.

Sources: OCP Microscaling Formats (MX) v1.0 for E2M1 values and E8M0 scales; the compressed-tensors formats
`float-quantized`, `int-quantized` and `pack-quantized`; DeepSeek-V3's blocks of 128 x 128.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from torch import Tensor

from srr_core.checkpoint.derived import DerivedEntry, Read, derived
from srr_core.checkpoint.header import DTYPES, TensorEntry
from srr_core.errors import CheckpointError
from srr_core.recipe.stored_schemes import BLOCK_SCALES, BLOCKS, PACKED, StoredScheme, check_stored, scale_of

FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""E2M1, by code."""
EXPONENT_BIAS = 127
"""Of E8M0: a scale is two to the power of its byte less this."""
DECODED = torch.bfloat16

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_COMPANIONS = ("_scale_inv", "_scale", "_zero_point", "_shape")


def decoded(
    entries: Mapping[str, TensorEntry], config: Mapping[str, Any]
) -> tuple[dict[str, TensorEntry], StoredScheme | None]:
    """Return the tensors of a checkpoint with codes and scales replaced by weights, and how they were stored.

    Args:
        config: What config.json holds.
    Raises:
        UnsupportedModelError: codes that are not decoded here.
        CheckpointError: the shapes of codes and scales do not fit.
    """
    scheme = check_stored({name: _NAMES[entry.dtype] for name, entry in entries.items()}, config)
    if scheme is None:
        return dict(entries), None
    result = dict(entries)
    for name, entry in entries.items():
        made = _decoded(name, entry, entries, config)
        if made is not None:
            weight, companions, new = made
            for used in (name, *companions):
                result.pop(used, None)
            result[weight] = new
    # Scales of activations mean nothing once the weights are numbers.
    return {
        name: entry for name, entry in result.items() if not name.endswith(("input_scale", "activation_scale"))
    }, scheme


def _decoded(
    name: str, entry: TensorEntry, entries: Mapping[str, TensorEntry], config: Mapping[str, Any]
) -> tuple[str, list[str], DerivedEntry] | None:
    if name.endswith(BLOCKS) and name.removesuffix(BLOCKS) + BLOCK_SCALES in entries:
        return _microscaled(name.removesuffix(BLOCKS), entry)
    if name.endswith(f"weight{PACKED}"):
        return _packed(name.removesuffix(PACKED), entry, entries, config)
    scale = scale_of(name, entries)
    if entry.dtype.itemsize != 1 or (scale is None and not entry.dtype.is_floating_point) or entry.dtype == torch.bool:
        return None
    is_paired = entry.dtype == torch.int8 and _method(config) == "fp8"
    shape = (*entry.shape[:-1], 2 * entry.shape[-1]) if is_paired else entry.shape
    make = functools.partial(_scaled, name, scale, None if is_paired else _block_size(config), is_paired=is_paired)
    return name, [scale] if scale is not None else [], derived(entry, shape, DECODED, make)


def _scaled(name: str, scale: str | None, block: tuple[int, int] | None, read: Read, *, is_paired: bool) -> Tensor:
    codes = _pairs(read(name).view(torch.uint8)) if is_paired else read(name).to(torch.float32)
    if scale is None:
        return codes.to(DECODED)
    return (codes * _spread(name, _as_float(read(scale)), codes.shape, block)).to(DECODED)


def _spread(name: str, scale: Tensor, shape: torch.Size, block: tuple[int, int] | None) -> Tensor:
    """Return scales in a shape that multiplies with a weight: one number, one a row, or one a block."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.dim() == 1 and scale.shape[0] == shape[0]:
        return scale.reshape(-1, *([1] * (len(shape) - 1)))
    if scale.dim() == len(shape) and scale.shape[:-2] == shape[:-2]:
        for dim in (-2, -1):
            size = _block(shape[dim], scale.shape[dim], None if block is None else block[dim])
            if size is None:
                break
            scale = scale.repeat_interleave(size, dim).narrow(dim, 0, shape[dim])
        else:
            return scale
    raise CheckpointError(f"tensor {name!r} has shape {list(shape)}, which its scale {list(scale.shape)} does not fit")


def _block(length: int, count: int, stated: int | None) -> int | None:
    if stated and -(-length // stated) == count:
        return stated
    return length // count if length % count == 0 else None


def _block_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    described = config.get("quantization_config")
    size = described.get("weight_block_size") if isinstance(described, Mapping) else None
    if not isinstance(size, list) or len(size) != 2 or not all(type(part) is int and part > 0 for part in size):
        return None
    return size[0], size[1]


def _method(config: Mapping[str, Any]) -> str:
    described = config.get("quantization_config")
    return str(described.get("quant_method")) if isinstance(described, Mapping) else ""


def _as_float(scale: Tensor) -> Tensor:
    if scale.dtype == torch.uint8:
        return (scale.to(torch.float32) - EXPONENT_BIAS).exp2()
    return scale.to(torch.float32)


def _microscaled(weight: str, entry: TensorEntry) -> tuple[str, list[str], DerivedEntry]:
    """Read blocks [..., rows, groups, 16 bytes] of two values a byte, as the transposed weight [..., columns, rows]."""
    *leading, rows, groups, size = entry.shape if len(entry.shape) > 2 else (0, 0, 0)
    shape = (*leading, groups * size * 2, rows)
    make = functools.partial(_microscaled_weight, weight)
    return weight, [weight + BLOCK_SCALES], derived(entry, shape, DECODED, make)


def _microscaled_weight(weight: str, read: Read) -> Tensor:
    codes, scales = read(weight + BLOCKS), _as_float(read(weight + BLOCK_SCALES))
    if codes.shape[:-1] != scales.shape:
        raise CheckpointError(f"tensor {weight + BLOCKS!r} has another number of blocks than scales")
    return (_pairs(codes) * scales[..., None]).flatten(-2).mT.to(DECODED).contiguous()


def _pairs(codes: Tensor) -> Tensor:
    """Return the two E2M1 values of every byte, the low half first."""
    values = torch.tensor(FP4_VALUES)
    return torch.stack([values[(codes & 0xF).long()], values[(codes >> 4).long()]], -1).flatten(-2)


def _packed(
    weight: str, entry: TensorEntry, entries: Mapping[str, TensorEntry], config: Mapping[str, Any]
) -> tuple[str, list[str], DerivedEntry]:
    bits, is_symmetric, group = _grid(config)
    scale = entries.get(f"{weight}_scale")
    if scale is None or len(entry.shape) != 2 or len(scale.shape) != 2:
        raise CheckpointError(f"tensor {weight + PACKED!r} has no scale that fits it")
    columns = scale.shape[1] * group if group else entry.shape[1] * 32 // bits
    if math.ceil(columns * bits / 32) != entry.shape[1]:
        raise CheckpointError(f"tensor {weight + PACKED!r} does not have the {columns} columns that its scales say")
    shape = (entry.shape[0], columns)
    companions = [weight + suffix for suffix in _COMPANIONS if weight + suffix in entries]
    make = functools.partial(_packed_weight, weight, bits, shape, has_zero_points=not is_symmetric)
    return weight, companions, derived(entry, shape, DECODED, make)


def _packed_weight(weight: str, bits: int, shape: tuple[int, int], read: Read, *, has_zero_points: bool) -> Tensor:
    codes: Tensor = unpack_from_int32(read(weight + PACKED), bits, torch.Size(shape)).to(torch.float32)
    scale = read(f"{weight}_scale").to(torch.float32)
    if has_zero_points:
        points = unpack_from_int32(read(f"{weight}_zero_point"), bits, torch.Size(scale.shape), packed_dim=0)
        codes = codes - points.to(torch.float32).repeat_interleave(shape[1] // scale.shape[1], 1)
    return (codes * scale.repeat_interleave(shape[1] // scale.shape[1], 1)).to(DECODED)


def _grid(config: Mapping[str, Any]) -> tuple[int, bool, int | None]:
    """Return bits, symmetry and group size of packed integers. Raises CheckpointError."""
    described = config.get("quantization_config")
    groups = described.get("config_groups") if isinstance(described, Mapping) else None
    weights = [group.get("weights") for group in groups.values()] if isinstance(groups, Mapping) else []
    if len(weights) != 1 or not isinstance(weights[0], Mapping) or type(weights[0].get("num_bits")) is not int:
        raise CheckpointError("config.json: quantization_config does not give one grid of packed integers")
    grid = weights[0]
    group = grid.get("group_size")
    return grid["num_bits"], bool(grid.get("symmetric", True)), group if type(group) is int and group > 0 else None
