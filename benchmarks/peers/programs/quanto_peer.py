"""optimum-quanto with its HQQ optimizer, without data; https://github.com/huggingface/optimum-quanto."""

import torch
from optimum.quanto import HqqOptimizer, freeze, qtypes, quantize
from peer_task import Dense, PeerTask


def main() -> None:
    """Quantize and answer."""
    task = PeerTask()
    bits = task.settings["bits"]
    # Scales and shifts have the dtype of the model: 16 bits, as in use.
    model = task.model().to(torch.float16)
    quantize(model, weights=qtypes[f"qint{bits}"], optimizer=HqqOptimizer(), include=task.layers)
    for name in task.layers:
        layer = model.get_submodule(name)
        layer.weight_group_size = task.dividing(layer.in_features)
    freeze(model)
    dense = {}
    for name in task.layers:
        layer = model.get_submodule(name)
        # What it saves: packed codes, scales and shifts.
        parts = [part for key, part in layer.state_dict().items() if key.startswith("weight.")]
        stored = 8 * sum(part.numel() * part.element_size() for part in parts)
        dense[name] = Dense(layer.weight.dequantize(), stored)
    task.finish(dense)


if __name__ == "__main__":
    main()
