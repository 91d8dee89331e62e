"""torchao: integers of any width per group, weights only, without data; https://github.com/pytorch/ao."""

import torch
from peer_task import Dense, PeerTask
from torchao.quantization import IntxWeightOnlyConfig, MappingType, PerGroup, quantize_
from torchao.quantization.quantize_.workflows import IntxChooseQParamsAlgorithm


def main() -> None:
    """Quantize and answer."""
    task = PeerTask()
    bits, model, dense = task.settings["bits"], task.model(), {}
    for name in task.layers:
        layer = model.get_submodule(name)
        config = IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, f"int{bits}"),
            granularity=PerGroup(task.dividing(layer.in_features)),
            mapping_type=MappingType[task.settings["mapping"]],
            scale_dtype=torch.float16,
            intx_choose_qparams_algorithm=IntxChooseQParamsAlgorithm[task.settings["algorithm"]],
        )
        quantize_(layer, config)
        # It holds codes and zero points in a byte each and leaves packing to where they run: counted as packed.
        has_zero_points = bool(layer.weight.zero_point.any())
        groups = layer.weight.scale.numel()
        stored = layer.weight.numel() * bits + groups * (16 + bits * has_zero_points)
        dense[name] = Dense(layer.weight.dequantize(), stored)
    task.finish(dense)


if __name__ == "__main__":
    main()
