"""A training step over packed weights against dense ones, and what a model in training holds in memory.

    python -m benchmarks.tuning_step          # ratio of times of one layer and of a model of two blocks, width 1024
    python -m benchmarks.tuning_step memory   # resident memory of a 1.1B-shaped model in training; BLOCKS of 22

A step is forward, backward and AdamW over the factors of rank 16, at 512 tokens. Packed and dense run in turn, so that
what else the machine does falls on both, and the ratio is the median over pairs of thread CPU times. Dense is the same
decoded weights under the same adapter, in float32 and in bf16. Codes are MXINT of 2 bits, block 16.

Memory is the resident size of a process of its own between steps, and its peak within them, less what it held after it
had trained a model of one narrow block: what Python, torch and their arenas take is not counted. With fewer blocks than
22 it is said so. Dense is there what its users have, PEFT's layers and transformers' loss, and packed is what ours
have, the loss in pieces of 128 tokens (`batch.chunk_tokens`).
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.memory import checkpoint
from examples import CALIBRATION_TEXT
from srr_core.formats.stored_forms import word_codec
from srr_core.pipeline import compress
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import PRESETS, MXIntSpec, override
from srr_core.recipe.byte_sizes import size_words
from srr_core.runtime import PackedLinear, load
from srr_core.runtime.training import attach, trained_parameters
from srr_core.tuners.batches import token_batch
from srr_core.tuners.examples import example
from srr_core.tuners.loss import TokenLoss
from srr_core.tuners.start import write_base, write_start

WIDTH, INNER, RANK, TOKENS, PAIRS = 1024, 2816, 16, 512, 15
SPEC = MXIntSpec(num_bits=2, block_size=16)
BLOCKS = 22
LLAMA_1B = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
}
MEMORY_TOKENS, CHUNK_TOKENS = 512, 128
TRAIN_AND_MEASURE = """
import gc, json, sys
from pathlib import Path
import psutil, torch
from benchmarks.tuning_step import opened, steps_of
from srr_core.runtime.resident import release_freed
kind, folder, small, chunk = sys.argv[1:]
torch.set_num_threads(1)
def trained(path):
    model = opened(kind, path)
    step = steps_of(model, chunk_tokens=int(chunk) if kind == "packed" else None)
    for _ in range(3):
        step()
    return model, step
first = trained(small)
del first
gc.collect(); release_freed()
before = psutil.Process().memory_info().rss
model, step = trained(folder)
gc.collect(); release_freed()
between = psutil.Process().memory_info().rss - before
def peak():
    gc.collect(); release_freed()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    step()
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024 - before
whole = peak()
model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
print(json.dumps({"between": between, "peak": whole, "peak, blocks computed twice": peak()}))
"""


def main() -> None:
    """Print the times, or with `memory` the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("time", "memory"), default="time")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="Of the 1.1B-shaped model's 22.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "memory":
        memory(given.blocks)
        return
    print(f"{TOKENS} tokens, rank {RANK}, {SPEC.num_bits} bits; packed / dense of the same dtype, median (range)")
    for dtype in (torch.float32, torch.bfloat16):
        print(_line(f"layer {INNER} x {WIDTH}", dtype, *layers(dtype)))
    with tempfile.TemporaryDirectory() as folder:
        artifact = random_artifact(Path(folder), blocks=2, hidden_size=WIDTH, intermediate_size=INNER)
        for dtype in (torch.float32, torch.bfloat16):
            models = [opened(kind, artifact, dtype) for kind in ("packed", "dense")]
            print(_line("model of 2 blocks", dtype, *[steps_of(model) for model in models]))


def layers(dtype: torch.dtype) -> list[Callable[[], None]]:
    """Return a step over one packed layer, and over the dense one it stands for, each with an adapter."""
    codec = word_codec(SPEC)
    generator = torch.Generator().manual_seed(0)
    quantized = QUANTIZERS.build(SPEC).quantize(torch.randn(INNER, WIDTH, generator=generator) * 0.02)
    packed = PackedLinear(codec, WIDTH, INNER, bias=False, dtype=dtype)
    packed.load_state_dict(codec.pack("layer", quantized), strict=False)
    packed.prepare(dtype)
    dense = nn.Linear(WIDTH, INNER, bias=False, dtype=dtype).requires_grad_(False)
    dense.weight.data.copy_(quantized.dequantize())
    x = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype)
    return [_layer_step(layer, x) for layer in (packed, dense)]


def _layer_step(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    right = nn.Parameter(torch.randn(RANK, WIDTH) * 0.01)
    left = nn.Parameter(torch.randn(INNER, RANK) * 0.01)
    optimizer = torch.optim.AdamW([left, right], lr=1e-4)

    def step() -> None:
        given = x.detach().requires_grad_()
        y = layer(given) + ((given.float() @ right.t()) @ left.t()).to(given.dtype)
        y.square().mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        optimizer.zero_grad()

    return step


def random_artifact(folder: Path, *, blocks: int, **shape: int) -> Path:
    """Return a random Llama in 2 bits with a fresh adapter of rank 16: the start of a training."""
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16}
    source = checkpoint(folder / "source", num_hidden_layers=blocks, **{**heads, **shape})
    changes = {
        "quantizer": SPEC.model_dump(mode="json"),
        "calibration": {"num_sequences": 1, "sequence_length": 16, "batch_size": 1},
        "evaluation": None,
    }
    compress(source, override(PRESETS["weight-only"], changes), folder / "packed", calibration_text=CALIBRATION_TEXT)
    shutil.rmtree(source)
    base, start = folder / "base", folder / "start"
    base.mkdir()
    start.mkdir()
    write_start(base, start, write_base(folder / "packed", base, labels=None), rank=RANK, seed=0)
    return start


def opened(kind: str, artifact: Path | str, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """Return a model in training: packed, or a dense one of the same sizes under the same adapter."""
    folder = Path(artifact)
    base = load(folder, adapter=None, trainable=True, dtype=dtype)
    if kind == "dense":
        config = LlamaConfig.from_pretrained(folder)
        del base, config.quantization_config
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        base = LlamaForCausalLM(config)
        torch.set_default_dtype(before)
    return attach(base, folder, trainable=True)


def steps_of(model: nn.Module, tokens: int = TOKENS, *, chunk_tokens: int | None = None) -> Callable[[], None]:
    """Return a step of AdamW on random tokens, with transformers' loss, or with ours in pieces."""
    optimizer = torch.optim.AdamW([parameter for _, parameter in trained_parameters(model)], lr=1e-4)
    ids = torch.randint(0, 64, (1, tokens), generator=torch.Generator().manual_seed(0))

    loss = None if chunk_tokens is None else TokenLoss(model.get_base_model(), chunk_tokens=chunk_tokens)  # type: ignore[operator]  # nn.Module gives any attribute the type of a tensor or a module
    batch = token_batch([(example(0, ids[0].tolist(), [True] * tokens),)], padding=0, is_packed=False)

    def step() -> None:
        found = model(input_ids=ids, labels=ids).loss if loss is None else loss(model, batch) / batch.num_targets
        found.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _line(name: str, dtype: torch.dtype, packed: Callable[[], None], dense: Callable[[], None]) -> str:
    ratios, seconds = [], []
    for step in (packed, dense):
        step()
    for _ in range(PAIRS):
        one, other = _seconds(packed), _seconds(dense)
        ratios.append(one / other)
        seconds.append(other)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    place = f"{name:20s} {str(dtype).removeprefix('torch.'):9s}"
    return f"{place} {statistics.median(ratios):5.2f} ({spread}), dense {1e3 * statistics.median(seconds):.0f} ms"


def _seconds(step: Callable[[], None]) -> float:
    began = time.thread_time()
    step()
    return time.thread_time() - began


def memory(blocks: int) -> None:
    """Print the resident memory of a 1.1B-shaped model in training, packed and dense."""
    with tempfile.TemporaryDirectory() as folder:
        small = random_artifact(Path(folder) / "small", blocks=1, hidden_size=64, intermediate_size=128)
        artifact = random_artifact(Path(folder) / "large", blocks=blocks, **LLAMA_1B)
        found = {kind: _resident(kind, artifact, small) for kind in ("packed", "dense")}
    measured = "" if blocks == BLOCKS else f", {blocks} of {BLOCKS} blocks"
    print(f"1.1B-shaped{measured}, {MEMORY_TOKENS} tokens, rank {RANK}, bf16")
    for when in found["packed"]:
        packed, dense = found["packed"][when], found["dense"][when]
        print(f"{when:28s} packed {size_words(packed)}, dense {size_words(dense)}, ratio {packed / dense:.3f}")


def _resident(kind: str, artifact: Path, small: Path) -> dict[str, int]:
    command = [sys.executable, "-c", TRAIN_AND_MEASURE, kind, str(artifact), str(small), str(CHUNK_TOKENS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # our own interpreter, our own script
    sizes: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return sizes


if __name__ == "__main__":
    main()
