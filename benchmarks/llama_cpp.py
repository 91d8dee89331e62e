"""llama.cpp on the files of our exporter: packed, with and without L·R, against its own float32.

    python -m benchmarks.llama_cpp [TYPE ...]     # Q8_0 Q6_K Q4_0 MXFP4 Q3_K Q2_K

One random Llama block of width 4096 and 11008, 202 million weights, exported once per block type and rank; float32 is
the merged export. Times are medians of process CPU time on one thread for a call of 1 and of 32 tokens; the files take
turns, so that weights come from memory and a busy moment meets all of them. Needs the extra `llama-cpp`, compiled on
the machine that is measured: a wheel without its vector instructions is several times slower.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.writer import write_json, write_tensors
from srr_core.exporters.export import export
from srr_core.exporters.exporter import write_shards
from srr_core.formats.adapter import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    adapter_config,
    adapter_tensors,
    target_modules,
)
from srr_core.formats.artifact import CONFIG_NAME
from srr_core.formats.layouts import native_layout
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import GGUFSpec, MXIntSpec, Recipe

HIDDEN, INTERMEDIATE, HEADS = 4096, 11008, 32
BATCHES = (1, 32)
RANKS = (32, 64)
ROUNDS = 15
CONTEXT = 64
LETTERS = "abcdefghijklmnopqrstuvwxyzĠ"
"""Tokens of the checkpoint: so few that embeddings and head cost nothing."""

GRIDS: dict[str, dict[str, object]] = {
    "Q8_0": {"num_bits": 8, "block_size": 32},
    "Q6_K": {"num_bits": 6, "block_size": 16, "exponent_window": 7},
    "Q4_0": {"num_bits": 4, "block_size": 32},
    "MXFP4": {"num_bits": 3, "block_size": 32},
    "Q3_K": {"num_bits": 3, "block_size": 16, "exponent_window": 5},
    "Q2_K": {"num_bits": 2, "block_size": 16, "exponent_window": 3},
}
"""A grid that the block type holds exactly."""
SPREAD = 2.0**-12
"""Scale of a few weights for MXFP4: Q3_K, which is smaller, cannot hold their exponents beside the others."""


@dataclass(frozen=True)
class Files:
    """What llama.cpp is given: a model, perhaps with an adapter."""

    name: str
    model: Path
    adapter: Path | None = None


def source_checkpoint(folder: Path, *, is_spread: bool) -> dict[str, Tensor]:
    """Write configuration and tokenizer of the random block; return its weights in bf16."""
    names = ["<s>", "</s>", *LETTERS, "th"]
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        vocab_size=len(names),
        max_position_embeddings=512,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = dict(zip(("bos_token", "eos_token"), names, strict=False))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    weights = LlamaForCausalLM(config).to(torch.bfloat16).state_dict()
    if is_spread:
        for name in filter(is_compressed, weights):
            weights[name][:, :32] *= SPREAD
    return weights


def is_compressed(name: str) -> bool:
    """Whether a tensor is one of the seven matrices of the block."""
    return name.endswith("_proj.weight")


def write_artifact(folder: Path, block_type: str, rank: int) -> Path:
    """Write the block as an artifact: rounded to nearest, with random L and R, whose values cost the same."""
    spec = MXIntSpec.model_validate(GRIDS[block_type])
    layout = native_layout(spec)
    folder.mkdir(parents=True)
    weights = source_checkpoint(folder, is_spread=block_type == "MXFP4")
    modules = [name.removesuffix(".weight") for name in filter(is_compressed, weights)]
    stored = {name: tensor for name, tensor in weights.items() if not is_compressed(name)}
    adapter: dict[str, Tensor] = {}
    for module in modules:
        weight = weights[f"{module}.weight"].float()
        stored |= layout.layer_tensors(module, QUANTIZERS.build(spec).quantize(weight))
        left, right = torch.randn(weight.shape[0], rank) * 0.01, torch.randn(rank, weight.shape[1]) * 0.01
        adapter |= adapter_tensors(module, left, right, rank=rank)
    write_shards(folder, stored.items())
    write_tensors(folder / ADAPTER_WEIGHTS, adapter)
    targets = target_modules(modules)
    write_json(
        folder / ADAPTER_CONFIG, adapter_config(rank=rank, target_modules=targets, base_model=None, task="CAUSAL_LM")
    )
    quantization = layout.quantization_config(Recipe(quantizer=spec, rank=rank), ignore=["lm_head"], modules=modules)
    write_json(folder / CONFIG_NAME, {**read_json(folder / CONFIG_NAME), "quantization_config": quantization})
    return folder


def exported(block_type: str, folder: Path) -> list[Files]:
    """Write and export an artifact per rank; return the model alone and with each adapter."""
    found = []
    for rank in RANKS:
        files = folder / f"gguf-{rank}"
        notes = export(write_artifact(folder / f"artifact-{rank}", block_type, rank), files, GGUFSpec(merged="none"))
        assert f"7 layers in {block_type}: every weight exact" in notes, notes
        found.append(Files(f"{block_type} + L·R of rank {rank}", files / "model.gguf", files / "adapter.gguf"))
    return [Files(block_type, found[0].model), *found]


def merged(folder: Path) -> Files:
    """Return the float32 file, exported from an artifact that lies in the folder."""
    export(folder / f"artifact-{RANKS[0]}", folder / "merged", GGUFSpec(merged="f32"))
    return Files("F32", folder / "merged" / "model.gguf")


def opened(files: Files) -> Any:
    """Return a model of llama.cpp on one thread."""
    import llama_cpp  # noqa: PLC0415  # optional

    return llama_cpp.Llama(
        model_path=str(files.model),
        lora_path=None if files.adapter is None else str(files.adapter),
        n_ctx=CONTEXT,
        n_batch=CONTEXT,
        n_threads=1,
        n_threads_batch=1,
        verbose=False,
    )


def milliseconds(model: Any, batch: int) -> float:
    """Return the CPU time of one call with this many tokens."""
    model.reset()
    began = time.process_time()
    model.eval([2 + index % len(LETTERS) for index in range(batch)])
    return 1e3 * (time.process_time() - began)


def measure(candidates: list[Files]) -> None:
    """Print one line per file: size, and the median time per batch beside that of the first file."""
    loaded = [opened(files) for files in candidates]
    medians = {}
    for batch in BATCHES:
        times = [[milliseconds(model, batch) for model in loaded] for _ in range(ROUNDS + 1)][1:]
        medians[batch] = [statistics.median(column) for column in zip(*times, strict=True)]
    print(f"{'file':28} {'MiB':>6}" + "".join(f"{f'batch {batch}':>12} ms {'ratio':>6}" for batch in BATCHES))
    for index, files in enumerate(candidates):
        size = files.model.stat().st_size + (files.adapter.stat().st_size if files.adapter else 0)
        columns = [f"{medians[b][index]:12.1f} ms {medians[b][index] / medians[b][0]:6.2f}" for b in BATCHES]
        print(f"{files.name:28} {size / 2**20:6.0f}{''.join(columns)}")


def main(types: list[str]) -> None:
    """Measure the named block types, or all."""
    if find_spec("llama_cpp") is None:
        print("llama.cpp is not installed: pip install -e '.[llama-cpp]'")
        return
    with tempfile.TemporaryDirectory() as folder:
        candidates: list[Files] = []
        for block_type in types:
            print(f"exporting {block_type}", flush=True)
            candidates += exported(block_type, Path(folder) / block_type)
        measure([merged(Path(folder) / types[0]), *candidates])


if __name__ == "__main__":
    main(sys.argv[1:] or list(GRIDS))
