"""HQQ: half-quadratic fit of zero points, without data; https://mobiusml.github.io/hqq_blog/."""

from hqq.core.quantize import Quantizer
from peer_task import Dense, PeerTask


def main() -> None:
    """Quantize and answer."""
    task = PeerTask()
    model, dense = task.model(), {}
    for name in task.layers:
        weight = model.get_submodule(name).weight.detach()
        codes, meta = Quantizer.quantize(
            weight, nbits=task.settings["bits"], group_size=task.settings["group_size"], axis=1, device="cpu"
        )
        codes, meta = Quantizer.cpu(codes, meta)
        # Scales and zero points in 16 bits, which `cpu` casts them to; codes as they are packed, ten of 3 bits in 32.
        packed = codes.numel() * codes.element_size()
        stored = 8 * (packed + sum(meta[part].numel() * meta[part].element_size() for part in ("scale", "zero")))
        dense[name] = Dense(Quantizer.dequantize(codes, meta), stored)
    task.finish(dense)


if __name__ == "__main__":
    main()
