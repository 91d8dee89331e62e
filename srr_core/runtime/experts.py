"""Experts of a mixture: transformers holds them fused and dense, so they are decoded while they are loaded."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.core_model_loading import ConversionOps

from srr_core.runtime.codecs import SHAPE_SUFFIX, Codec


def serialized_names(codec: Codec) -> dict[str, list[str]]:
    """Return, as transformers wants it, the tensors of a file that a dense `weight` is made from."""
    return {"weight": list(dict.fromkeys(("weight", *codec.declared((1, 1)), SHAPE_SUFFIX)))}


class DecodeExperts(ConversionOps):
    """Makes the packed tensors of each expert dense, in the dtype of the fused parameter they become a part of.

    Memory: the fused parameter, and one expert in float32.
    """

    def __init__(self, hf_quantizer: Any) -> None:
        # For an operation with this attribute transformers leaves the tensors in the dtypes of the file.
        self.hf_quantizer = hf_quantizer

    @torch.no_grad()
    def convert(  # type: ignore[override]  # transformers calls it by keywords
        self, input_dict: Mapping[str, list[Tensor]], *, model: Any, full_layer_name: str, **_: Any
    ) -> dict[str, Tensor]:
        """Return one tensor [experts, out, in] for each projection, under the name its dense weights would have."""
        codec = self.hf_quantizer.quantization_config.marker.codec()
        dtype = model.get_parameter(full_layer_name).dtype
        dense = {}
        for pattern, shapes in input_dict.items():
            stem = pattern.removesuffix(SHAPE_SUFFIX)
            if stem == pattern:
                continue
            shape = (int(shapes[0][0]), int(shapes[0][1]))
            weights = torch.empty(len(shapes), *shape, dtype=dtype, device=shapes[0].device)
            for index, weight in enumerate(weights):
                packed = {suffix: input_dict[f"{stem}{suffix}"][index] for suffix in codec.declared(shape)}
                weight.copy_(codec.rebuild(shape, packed).dequantize())
            dense[f"{stem}weight"] = weights
        return dense
