"""Packed layers with their correction against dense ones, and what a packed model takes in memory.

    python -m benchmarks.kernels            # time of one layer, 4096 -> 11008, batch 1 and 32, on this CPU or GPU
    python -m benchmarks.kernels memory     # resident memory of a 1.1B-shaped model, packed 4 bits against dense bf16

Times are medians of process CPU time on one thread; the layers rotate, so that weights come from memory and not from a
cache. On a GPU it is the wall time of a captured graph of layers, as servers replay it, so that launches do not count,
and beside it stands the floor: what reading the layer takes at the bandwidth of a copy on this GPU.
Dense is `nn.Linear`: float32 on a CPU, the faster one there, and bf16 on a GPU.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from srr_core.formats.stored_forms import word_codec
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import MXIntSpec
from srr_core.runtime import PackedLinear

IN_FEATURES, OUT_FEATURES = 4096, 11008
RANK = 64
ROTATED = 4
"""Layers of each kind; on a GPU as many as its cache cannot hold."""
ROTATED_ON_GPU = 16
ROUNDS = 9
REPLAYS = 20
LOAD_AND_MEASURE = """
import gc, json, sys, psutil, torch
from srr_core.runtime.resident import release_freed
def loaded():
    if sys.argv[1] == "packed":
        from srr_core.runtime import load
        return load(sys.argv[2], dtype=torch.bfloat16)
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype=torch.bfloat16)
def resident():
    gc.collect()
    release_freed()
    return psutil.Process().memory_info().rss
model = loaded()  # once for nothing, so that what Python imports on the way is not counted
del model
before = resident()
model = loaded()
with torch.inference_mode():
    model(torch.zeros(1, 1, dtype=torch.long))  # a file that is mapped is in memory only when it was read
held = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
print(json.dumps({"rss": resident() - before, "held": held}))
"""


class Corrected(nn.Module):
    """A packed layer with its L·R, added as a loaded model adds it."""

    def __init__(self, packed: PackedLinear, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self.packed, self.left, self.right = packed, left, right

    def forward(self, x: Tensor) -> Tensor:
        """Return x·Qᵀ + (x·Rᵀ)·Lᵀ."""
        shared = x @ self.right.t()
        if self.packed.path is not None and self.packed.path.fuses_low_rank:
            y: Tensor = self.packed(x, shared=shared, left=self.left)
            return y
        quantized: Tensor = self.packed(x)
        return quantized + shared @ self.left.t()


def packed_layer(num_bits: int, dtype: torch.dtype, device: str, *, widen: bool, seed: int) -> Corrected:
    """Return a random layer of this benchmark's size."""
    spec = MXIntSpec(num_bits=num_bits, block_size=32)
    codec = word_codec(spec)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(OUT_FEATURES, IN_FEATURES, generator=generator) * 0.02
    layer = PackedLinear(
        codec, IN_FEATURES, OUT_FEATURES, bias=False, dtype=dtype, device=device, widen=widen, native=True
    )
    tensors = codec.pack("layer", QUANTIZERS.build(spec).quantize(weight))
    layer.load_state_dict(tensors, strict=False)
    layer.prepare(dtype)
    left = torch.randn(OUT_FEATURES, RANK, generator=generator).to(device, dtype) * 0.01
    right = torch.randn(RANK, IN_FEATURES, generator=generator).to(device, dtype) * 0.01
    return Corrected(layer, left, right)


@torch.inference_mode()
def median_milliseconds(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> float:
    """Return the median time of one layer."""
    for layer in layers:
        layer(x)
    if x.is_cuda:
        return _median_of_replays(layers, x)
    seconds = []
    for _ in range(ROUNDS):
        for layer in layers:
            began = time.process_time()
            layer(x)
            seconds.append(time.process_time() - began)
    return statistics.median(seconds) * 1e3


def _median_of_replays(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> float:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for layer in layers:
            layer(x)
    seconds = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(REPLAYS):
            graph.replay()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - began) / (REPLAYS * len(layers)))
    return statistics.median(seconds) * 1e3


def time_layers(device: str) -> None:
    """Print one line per format and batch."""
    torch.set_num_threads(1)
    dense_dtype = torch.float32 if device == "cpu" else torch.bfloat16
    count = ROTATED if device == "cpu" else ROTATED_ON_GPU
    dense = [nn.Linear(IN_FEATURES, OUT_FEATURES, bias=False, dtype=dense_dtype, device=device) for _ in range(count)]
    print(f"4096 -> 11008, rank {RANK}, {device}, ratio to dense {dense_dtype}")
    for batch in (1, 32) if device == "cpu" else (1, 2048):
        x = torch.randn(batch, IN_FEATURES, generator=torch.Generator().manual_seed(0)).to(device)
        baseline = median_milliseconds(dense, x.to(dense_dtype))
        print(f"batch {batch:4d}  dense {baseline:8.4f} ms{_floor(dense[0], device)}")
        for num_bits, dtype, widen in _formats(device):
            layers = [packed_layer(num_bits, dtype, device, widen=widen, seed=seed) for seed in range(count)]
            found = median_milliseconds(layers, x.to(dtype))
            path = layers[0].packed.path
            name = f"{num_bits} bit {str(dtype).removeprefix('torch.'):8} {path.name if path else ''}"
            print(f"batch {batch:4d}  {name:28} {found:8.4f} ms  {found / baseline:5.2f}x{_floor(layers[0], device)}")


def _floor(layer: nn.Module, device: str) -> str:
    """Return the time that reading a layer takes at least, for the end of a line; nothing on a CPU."""
    if device == "cpu":
        return ""
    source = torch.empty(1 << 28, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    milliseconds = median_milliseconds([target.copy_], source)
    held = [*layer.parameters(), *layer.buffers()]
    held += [layer.left, layer.right] if isinstance(layer, Corrected) else []
    read = sum(tensor.nbytes for tensor in held)
    return f"  floor {milliseconds * read / (2 * source.nbytes):.4f} ms"


def _formats(device: str) -> list[tuple[int, torch.dtype, bool]]:
    if device != "cpu":
        return [(bits, torch.bfloat16, False) for bits in (4, 3, 2)]
    widened = [(bits, torch.bfloat16, True) for bits in (4, 3, 2)]
    return widened + [(bits, torch.float32, False) for bits in (4, 3, 2)]


def measure_memory() -> None:
    """Print what a 1.1B-shaped model adds to the resident memory, and its tensors alone, packed and dense."""
    from benchmarks.memory import checkpoint  # noqa: PLC0415  # needs transformers, which timing does not

    with tempfile.TemporaryDirectory() as folder:
        source = checkpoint(
            Path(folder) / "source",
            hidden_size=2048,
            intermediate_size=5632,
            num_hidden_layers=22,
            num_attention_heads=32,
            num_key_value_heads=4,
        )
        artifact = _compressed(source, Path(folder) / "artifact")
        size = sum(file.stat().st_size for file in artifact.glob("*.safetensors"))
        figures = {"file": size}
        for kind, path in (("packed", artifact), ("dense", source)):
            done = subprocess.run(  # our own interpreter, our own script
                [sys.executable, "-c", LOAD_AND_MEASURE, kind, str(path)], check=True, capture_output=True, text=True
            )
            figures |= {f"{kind} {key}": value for key, value in json.loads(done.stdout.splitlines()[-1]).items()}
    for name, value in figures.items():
        print(f"{name:14} {value / 2**20:9.1f} MiB")
    packed, dense = figures["packed rss"], figures["dense rss"]
    print(f"packed takes {packed / size:.3f} times its files, dense {dense / packed:.2f} times as much")


def _compressed(source: Path, destination: Path) -> Path:
    from examples import CALIBRATION_TEXT  # noqa: PLC0415  # as above
    from srr_core.pipeline import compress  # noqa: PLC0415  # as above
    from srr_core.recipe import PRESETS, override  # noqa: PLC0415  # as above

    quick = {"quantizer.num_bits": 4, "rank": RANK, "calibration.num_sequences": 1, "calibration.sequence_length": 128}
    recipe = override(PRESETS["zeroquant-v2"], {**quick, "evaluation": None})
    compress(source, recipe, destination, calibration_text=CALIBRATION_TEXT)
    return destination


def main() -> None:
    """Run the part that was asked for."""
    if sys.argv[1:] == ["memory"]:
        measure_memory()
    else:
        time_layers("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
