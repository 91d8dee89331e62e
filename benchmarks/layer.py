"""One layer: the whole SRR path against QERA-exact as it is written down, and against our own QERA-exact.

    python -m benchmarks.layer [SIZE ...]

The literal baseline follows arXiv:2410.06040 and its published code: a float64 `scipy.linalg.sqrtm` of the
statistic, a full SVD of the scaled error, and a solve with the root. All methods share one weight, statistic and
quantizer.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from srr_core.quantizers import QUANTIZERS
from srr_core.rank_selectors import RANK_SELECTORS
from srr_core.recipe import PRESETS, AutocorrelationSpec, override
from srr_core.scalings import AutocorrelationScaling
from srr_core.srr import Method, WhiteNoiseProbe, decompose
from srr_core.types import Statistics

RANK = 64
ROUNDS = 3


def problem(size: int, *, seed: int = 0) -> tuple[Tensor, Statistics]:
    """Return a weight and an ill-conditioned statistic: eigenvalues 1/i, log-normal channels, a few massive ones."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2 * size, size, generator=generator) * torch.arange(1, size + 1) ** -0.5
    mixed = tokens @ torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
    channels = torch.exp(0.7 * torch.randn(size, generator=generator))
    channels[:4] *= 100
    inputs = (mixed * channels).to(torch.float64)
    weight = torch.randn(size, size, generator=generator)
    weight += torch.randn(size, 8, generator=generator) @ torch.randn(8, size, generator=generator) / 8**0.5
    gram = inputs.mT @ inputs / len(inputs)
    return 0.02 * weight, Statistics(gram, gram.diagonal().sqrt(), len(inputs))


def literal_qera_exact(weight: Tensor, found: Statistics) -> Tensor:
    """Return Q + L·R as the published code computes them, square root, full SVD and solve."""
    quantizer = QUANTIZERS.build(PRESETS["qera-exact"].quantizer)
    quantized = quantizer.quantize(weight).dequantize()
    root = torch.from_numpy(np.real(scipy.linalg.sqrtm(found.autocorrelation.numpy()))).to(torch.float32)
    left, values, right = torch.linalg.svd(root @ (weight - quantized).mT, full_matrices=True)
    factor = torch.linalg.solve(root, left[:, :RANK])
    return quantized + (factor @ (values[:RANK, None] * right[:RANK])).mT


def ours(name: str) -> Callable[[Tensor, Statistics], Tensor]:
    """Return a named recipe at the rank of this benchmark, statistic to Q + L·R."""
    recipe = override(PRESETS[name], {"rank": RANK})

    def run(weight: Tensor, found: Statistics) -> Tensor:
        exact = AutocorrelationScaling(AutocorrelationSpec()).factor(found)
        probe = WhiteNoiseProbe(exact, weight.shape[1], recipe, seed=1)
        method = Method(recipe, exact, exact, RANK_SELECTORS.build(recipe.rank_selector), probe)
        quantizer = QUANTIZERS.build(recipe.quantizer)
        result = decompose(weight, method, lambda target: quantizer.quantize(target, found))
        assert result.left is not None  # the rank is not 0
        assert result.right is not None
        return result.quantized.dequantize() + result.left.float() @ result.right.float()

    return run


def output_error(weight: Tensor, approximation: Tensor, found: Statistics) -> float:
    """Return the root mean square output error, in float64 from the definition."""
    error = (weight - approximation).to(torch.float64)
    return float((error @ found.autocorrelation * error).sum().sqrt())


def timed(
    run: Callable[[Tensor, Statistics], Tensor], weight: Tensor, found: Statistics, rounds: int
) -> tuple[float, Tensor]:
    """Return the median seconds of some rounds, and the result."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        result = run(weight, found)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), result


def main(sizes: list[int]) -> None:
    """Print a row per size and method."""
    print(f"rank {RANK}, MXINT 3 bits, block 32, float32, {torch.get_num_threads()} threads")
    print(f"{'size':>6} {'method':<22} {'seconds':>9} {'times faster':>13} {'output error':>13} {'against':>9}")
    for size in sizes:
        weight, found = problem(size)
        slow, literal = timed(literal_qera_exact, weight, found, 1)
        baseline = output_error(weight, literal, found)
        print(f"{size:>6} {'QERA-exact, literal':<22} {slow:>9.2f} {1:>13.1f} {baseline:>13.4f} {'':>9}")
        for name in ("qera-exact", "srr"):
            run = ours(name)
            timed(run, weight, found, 1)
            fast, result = timed(run, weight, found, ROUNDS)
            error = output_error(weight, result, found)
            share = f"{100 * (error / baseline - 1):+.1f} %"
            print(f"{size:>6} {name:<22} {fast:>9.2f} {slow / fast:>13.1f} {error:>13.4f} {share:>9}")


if __name__ == "__main__":
    main([int(value) for value in sys.argv[1:]] or [2048, 4096])
