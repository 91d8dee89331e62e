"""llm-compressor: GPTQ in its order of activations, or AWQ, which scales norms too; arXiv:2306.00978."""

import re
from collections import defaultdict

import torch
from compressed_tensors.quantization.lifecycle import fake_quantize
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from peer_task import Dense, PeerTask


def main() -> None:
    """Quantize and answer."""
    task = PeerTask()
    bits, model = task.settings["bits"], task.model()
    groups = defaultdict(list)
    for name in task.layers:
        groups[task.dividing(model.get_submodule(name).in_features)].append(f"re:^{re.escape(name)}$")
    schemes = {
        f"group_{group_size}": {
            "targets": targets,
            "weights": {
                "num_bits": bits,
                "type": "int",
                "symmetric": False,
                "strategy": "group",
                "group_size": group_size,
            },
        }
        for group_size, targets in groups.items()
    }
    if task.settings["method"] == "gptq":
        modifiers = [GPTQModifier(config_groups=schemes)]
    else:
        modifiers = [AWQModifier(duo_scaling="both"), QuantizationModifier(config_groups=schemes)]
    if not torch.accelerator.is_available():
        # AWQ pins what it caches, which fails where there is no device to pin for; pinning changes no number.
        torch.Tensor.pin_memory = lambda tensor, *_: tensor
    rows = task.windows.tolist()
    oneshot(
        model=model,
        tokenizer=task.tokenizer(),
        dataset=Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}),
        recipe=modifiers,
        max_seq_length=task.windows.shape[1],
        num_calibration_samples=len(rows),
    )
    dense = {}
    for name in task.layers:
        layer = model.get_submodule(name)
        scale, zero_point = layer.weight_scale, layer.weight_zero_point
        with torch.no_grad():
            weight = fake_quantize(layer.weight, scale, zero_point, layer.quantization_scheme.weights)
        dense[name] = Dense(weight, layer.weight.numel() * bits + scale.numel() * (16 + bits))
    task.finish(dense, model)


if __name__ == "__main__":
    main()
