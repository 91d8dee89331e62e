"""AutoRound: signed gradient descent on rounding and ranges, block by block; arXiv:2309.05516."""

from auto_round import AutoRound
from peer_task import Dense, PeerTask


def main() -> None:
    """Quantize and answer."""
    task = PeerTask()
    bits, group_size = task.settings["bits"], task.settings["group_size"]
    rounding = AutoRound(
        task.model(),
        task.tokenizer(),
        bits=bits,
        group_size=group_size,
        sym=False,
        iters=task.settings["iterations"],
        dataset=task.batches(),
        nsamples=len(task.windows),
        seqlen=task.windows.shape[1],
        batch_size=8,
        device_map="cpu",
        enable_torch_compile=False,
    )
    model, _ = rounding.quantize()
    dense = {}
    for name in task.layers:
        layer = model.get_submodule(name)
        # A scale is stored in 16 bits, a zero point in those of a code.
        stored = layer.weight.numel() * bits + layer.scale.numel() * (16 + bits)
        dense[name] = Dense(layer.weight.detach(), stored)
    task.finish(dense)


if __name__ == "__main__":
    main()
