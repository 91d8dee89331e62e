"""Whole runs on random checkpoints: what SRR costs over QERA-exact, and what memory does as models grow.

    python -m benchmarks.memory overhead     # whole runs of srr and qera-exact, in turn; ROUNDS, SEQUENCES, LENGTH
    python -m benchmarks.memory blocks       # peak memory with 4 and 8 blocks, medians of ROUNDS runs
    python -m benchmarks.memory tinyllama    # a TinyLlama-1.1B-shaped checkpoint
    python -m benchmarks.memory llama7b      # a LLaMA-2-7B-shaped one, only when it is named: it is for a GPU; BLOCKS

Every run is a process of its own, so that its peak resident size is its own.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from examples import CALIBRATION_TEXT, DEMO_MODEL
from srr_core.recipe import PRESETS

ONE_RUN = """
import json, sys, time
from pathlib import Path
import torch
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, override
source, out, text, name, changes = sys.argv[1:]
began = time.perf_counter()
report = compress(Path(source), override(PRESETS[name], json.loads(changes)), Path(out), calibration_text=Path(text))
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "decompose": sum(layer.seconds for layer in report.layers),
    "peak": report.environment.peak_memory_bytes,
    "gpu peak": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    **{f"stage {name}": seconds for name, seconds in report.seconds.items()},
}))
"""


def checkpoint(folder: Path, **shape: int) -> Path:
    """Write a random bf16 Llama checkpoint with the demo model's tokenizer, and its vocabulary unless one is given."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL)
    sizes = {"vocab_size": len(tokenizer), **shape}
    config = LlamaConfig(max_position_embeddings=2048, tie_word_embeddings=False, **sizes)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="500MB")
    torch.set_default_dtype(before)
    tokenizer.save_pretrained(folder)
    return folder


def run(source: Path, name: str, *, text: Path = CALIBRATION_TEXT, **changes: object) -> dict[str, float]:
    """Compress in a fresh process and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(source), f"{folder}/out", str(text), name, json.dumps(changes)]
        done = subprocess.run(  # our own interpreter, our own script
            [sys.executable, "-c", ONE_RUN, *arguments], check=True, capture_output=True, text=True
        )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def calibration(sequences: int, length: int) -> dict[str, object]:
    """Return the changes that set how much text is used."""
    return {"calibration": {"num_sequences": sequences, "sequence_length": length, "batch_size": 4}}


def overhead(folder: Path) -> None:
    """Print whole runs of srr and qera-exact in turn on 2048-wide blocks, and their ratio.

    SEQUENCES and LENGTH give the calibration; by default it is the recipes' own, as far as the bundled text goes.
    """
    shape = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 32}
    source = checkpoint(folder, num_hidden_layers=2, **shape)
    spec = PRESETS["srr"].calibration
    sequences, length = (
        int(os.environ.get(name, str(default)))
        for name, default in (("SEQUENCES", spec.num_sequences), ("LENGTH", spec.sequence_length))
    )
    pairs = [
        tuple(run(source, name, rank=64, **calibration(sequences, length)) for name in ("srr", "qera-exact"))
        for _ in range(int(os.environ.get("ROUNDS", "3")))
    ]
    for key in ("seconds", "decompose"):
        srr, qera = (statistics.median(pair[side][key] for pair in pairs) for side in (0, 1))
        print(f"{key:<10} srr {srr:7.1f} s, qera-exact {qera:7.1f} s, ratio {srr / qera:.3f}")


def blocks(folder: Path) -> None:
    """Print the peak memory of runs that differ only in the number of blocks, and the bound it stays below."""
    width, inner, sequences, length = 1024, 2816, 16, 512
    shape = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": 16, "num_key_value_heads": 16}
    sources = {count: checkpoint(folder / str(count), num_hidden_layers=count, **shape) for count in (4, 8)}
    rounds = [
        {
            count: run(source, "srr", rank=32, **calibration(sequences, length))["peak"]
            for count, source in sources.items()
        }
        for _ in range(int(os.environ.get("ROUNDS", "5")))
    ]
    peaks = [statistics.median(peak[count] for peak in rounds) for count in sources]
    for count, peak in zip(sources, peaks, strict=True):
        found = [each[count] / 2**30 for each in rounds]
        print(f"{count} blocks: {peak / 2**30:.3f} GiB, from {min(found):.3f} to {max(found):.3f}")
    block = 4 * (4 * width**2 + 3 * width * inner)
    statistics_of_inputs = 8 * (3 * width**2 + inner**2)
    hidden_states = 4 * sequences * length * width
    bound = 10**9 + 3 * block + statistics_of_inputs + hidden_states
    print(f"growth {100 * (peaks[1] / peaks[0] - 1):+.1f} %")
    print(f"bound  {bound / 2**30:.3f} GiB: 0.93 GiB, three blocks in float32, statistics, hidden states")


def tinyllama(folder: Path) -> None:
    """Print wall time and peak memory of a 1.1B-shaped checkpoint with 16 x 512 calibration tokens."""
    shape = {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 4}
    source = checkpoint(folder, num_hidden_layers=22, **shape)
    figures = run(source, "srr", rank=32, **calibration(16, 512))
    print(
        f"{figures['seconds']:.0f} s, decomposition {figures['decompose']:.0f} s, "
        f"peak {figures['peak'] / 2**30:.2f} GiB"
    )


def llama7b(folder: Path) -> None:
    """Print the stages and the peaks of a 7B-shaped checkpoint with 128 x 2048 calibration tokens and rank 64."""
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32}
    source = checkpoint(folder / "source", num_hidden_layers=int(os.environ.get("BLOCKS", "32")), **shape)
    text = folder / "text.txt"
    text.write_text(CALIBRATION_TEXT.read_text(encoding="utf-8") * 6, encoding="utf-8")
    figures = run(source, "srr", text=text, rank=64, **calibration(128, 2048))
    print(f"{figures['seconds']:.0f} s, of which decomposition {figures['decompose']:.0f} s")
    print(", ".join(f"{name.removeprefix('stage ')} {figures[name]:.0f} s" for name in figures if "stage" in name))
    print(f"peak {figures['peak'] / 2**30:.1f} GiB, of which on the GPU {figures['gpu peak'] / 2**30:.1f} GiB")


def main(names: list[str]) -> None:
    """Run the named parts, or all that are for any machine."""
    usual = {"overhead": overhead, "blocks": blocks, "tinyllama": tinyllama}
    parts = {**usual, "llama7b": llama7b}
    for name in names or usual:
        print(f"-- {name}")
        with tempfile.TemporaryDirectory() as folder:
            parts[name](Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
