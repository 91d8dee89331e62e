"""How a checkpoint stores its weights, judged by the names and dtypes in its headers, not by what a configuration says.

Torch-free, so that a service can tell from headers alone what the core would say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from srr_core.errors import UnsupportedModelError

SCALE_SUFFIXES = ("_scale_inv", "_scale")
"""Behind the name of a weight, the name of its scale."""
BLOCKS, BLOCK_SCALES = "_blocks", "_scales"
"""Behind the name of a weight in MXFP4, its two tensors."""
PACKED = "_packed"
DECODED_METHODS = frozenset({"fp8", "mxfp4", "compressed-tensors"})
"""Values of quant_method under which the weights are codes times scales and nothing else."""
OURS = "srr"
"""Key, or quant_method, by which the artifacts of this package are known."""

_FOREIGN = (
    (".qweight", "GPTQ or AWQ"),
    (".SCB", "bitsandbytes 8-bit"),
    (".absmax", "bitsandbytes 4-bit"),
    (".weight_global_scale", "NVFP4"),
    (".weight_g_idx", "compressed-tensors with reordered columns"),
)
_PARTS = (".weight_scale", ".weight_scale_inv", ".weight_zero_point", ".weight_shape")
"""What belongs to codes. Left over beside a plain weight, loaders of packed weights would look for the codes."""
_PLAIN = frozenset({"BF16", "F16", "F32", "F64"})
_INTEGERS = frozenset({"BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64"})
_FP8 = frozenset({"F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True)
class StoredScheme:
    """Weights that are stored as codes with scales."""

    title: str
    tensor: str
    """The first tensor that shows it."""
    is_decoded: bool
    """Whether the core reads it as weights."""

    @property
    def note(self) -> str:
        """A sentence for reports."""
        return (
            f"the source stores its weights as {self.title}: each was decoded, code times scale, to bfloat16 before "
            "anything was computed from it"
        )


def stored_scheme(dtypes: Mapping[str, str]) -> StoredScheme | None:
    """Return how the weights are stored, or None for plain numbers.

    Args:
        dtypes: Of every tensor, as safetensors headers spell them.
    """
    found = [scheme for name in sorted(dtypes) if (scheme := _scheme(name, dtypes)) is not None]
    if not found:
        whole = (name for name in sorted(dtypes) if name.endswith(".weight") and dtypes[name] in _INTEGERS)
        found = [StoredScheme("whole numbers without a scale", name, is_decoded=False) for name in whole]
    return next((scheme for scheme in found if not scheme.is_decoded), found[0] if found else None)


def check_stored(dtypes: Mapping[str, str], config: Mapping[str, Any]) -> StoredScheme | None:
    """Return the scheme of weights that the core decodes, or None for plain numbers.

    Args:
        config: What config.json holds.
    Raises:
        UnsupportedModelError: the weights are codes that the core does not decode, or that no configuration explains.
    """
    scheme = stored_scheme(dtypes)
    if scheme is None:
        return None
    if scheme.is_decoded and not config.get("quantization_config"):
        raise UnsupportedModelError(
            f"the model is quantized already ({scheme.title}: {scheme.tensor}), but config.json has no "
            "quantization_config, so stock loaders would take the codes for values; start from its 16-bit source"
        )
    if not scheme.is_decoded:
        raise UnsupportedModelError(
            f"the model is quantized already ({scheme.title}: {scheme.tensor}); start from its 16-bit source"
        )
    return scheme


def check_quantization(config: Mapping[str, Any]) -> None:
    """Refuse what config.json alone says is quantized in a way that the core does not decode.

    Raises:
        UnsupportedModelError: the message names the method.
    """
    described = config.get("quantization_config")
    if described is None:
        return
    if not described:  # stock loaders look for the method, and stop
        raise UnsupportedModelError(
            "quantization_config in config.json names no method, so stock loaders refuse the model; remove it there if "
            "the weights are plain"
        )
    method = described.get("quant_method", "unknown") if isinstance(described, Mapping) else described
    if method not in DECODED_METHODS or is_artifact(config):
        raise UnsupportedModelError(f"the model is quantized already ({method}); start from its 16-bit source")


def is_artifact(config: Mapping[str, Any]) -> bool:
    """Tell whether a config.json is that of an artifact of this package."""
    described = config.get("quantization_config")
    return isinstance(described, Mapping) and (described.get("quant_method") == OURS or OURS in described)


def scale_of(name: str, names: Mapping[str, Any]) -> str | None:
    """Return the name of the scale that belongs to a tensor, if there is one."""
    candidates = [name + suffix for suffix in SCALE_SUFFIXES]
    if name.endswith(".weight"):
        candidates.append(f"{name.removesuffix('weight')}scale")
    return next((candidate for candidate in candidates if candidate in names), None)


def _scheme(name: str, dtypes: Mapping[str, str]) -> StoredScheme | None:
    foreign = next((title for suffix, title in _FOREIGN if name.endswith(suffix)), None)
    if foreign is not None:
        return StoredScheme(foreign, name, is_decoded=False)
    left = next((name.removesuffix(part) for part in _PARTS if name.endswith(part)), None)
    if left is not None and dtypes.get(f"{left}.weight") in _PLAIN:
        return StoredScheme("parts of codes beside a plain weight", name, is_decoded=False)
    base = name.removesuffix(BLOCKS)
    if base != name and dtypes[name] == "U8" and dtypes.get(base + BLOCK_SCALES) == "U8":
        return StoredScheme("MXFP4", name, is_decoded=True)
    base = name.removesuffix(PACKED)
    if base != name and base.endswith("weight"):
        is_known = dtypes[name] == "I32" and base + "_scale" in dtypes
        return StoredScheme("packed integers", name, is_decoded=is_known)
    scale = scale_of(name, dtypes)
    if dtypes[name] in _FP8:
        return StoredScheme("FP8" if scale is None else "FP8 with scales", name, is_decoded=True)
    if dtypes[name] in {"I8", "U8"} and scale is not None and name.endswith(("weight", "_proj")):
        return StoredScheme("8-bit integers with scales", name, is_decoded=dtypes[name] == "I8")
    return None
