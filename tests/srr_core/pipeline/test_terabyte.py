"""A repository of a terabyte is inspected by its configuration and headers; the files are sparse and hold no data."""

import json
import struct
from pathlib import Path

import pytest
import torch
import transformers

from srr_core.checkpoint.reader import CheckpointReader
from srr_core.pipeline.inspection import inspect_model
from srr_core.recipe import named_recipe

TERABYTE = 10**12
MOST_READ = 20_000_000
"""Bytes. Headers and configuration are less than one million; modules that are imported the first time are more."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    config = transformers.LlamaConfig(
        hidden_size=65_536,
        intermediate_size=262_144,
        num_hidden_layers=8,
        num_attention_heads=512,
        num_key_value_heads=512,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        state = transformers.LlamaForCausalLM(config).state_dict()
    header, end = {}, 0
    for name, tensor in state.items():
        begin, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)
    return tmp_path


def _bytes_read() -> int:
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
def test_inspecting_a_terabyte_reads_headers_alone(source: Path) -> None:
    before = _bytes_read()
    found = inspect_model(source, CheckpointReader(source).entries, named_recipe("srr"), text_bytes=10**6)

    assert (found.is_supported, found.reason) == (True, "")
    assert found.source_bytes > TERABYTE
    assert _bytes_read() - before < MOST_READ
    assert (source / "model.safetensors").stat().st_blocks * 512 < MOST_READ
