"""vLLM's own model, loader and parallel layers over an artifact give Q + L·R once the plugin is there.

vLLM cannot be installed beside our torch, so it runs in the environment whose interpreter VLLM_PYTHON names:

    VLLM_PYTHON=~/vllm/bin/python python -m pytest tests/srr_core/serving/test_vllm_itself.py
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from srr_core.recipe import IntegerSpec, MXIntSpec, QuantizerSpec
from tests.servers import free_port
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, pico_llama

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="VLLM_PYTHON names no interpreter with vLLM"),
]

FLOAT32 = 1e-6
ROUNDED = 2e-4
"""Stock readers multiply codes by fp16 scales in fp16, vLLM in the model's dtype."""


@pytest.mark.parametrize(
    ("spec", "num_processes", "tolerance"),
    [
        (MXIntSpec(num_bits=4, block_size=32), 1, FLOAT32),
        (MXIntSpec(num_bits=4, block_size=32), 2, FLOAT32),
        (MXIntSpec(num_bits=2, block_size=32), 4, FLOAT32),
        (IntegerSpec(num_bits=4, group_size=32, symmetric=False), 1, ROUNDED),
    ],
    ids=["one", "two", "four-with-copied-keys", "zero-points"],
)
def test_vllm_serves_the_sum(spec: QuantizerSpec, num_processes: int, tolerance: float, tmp_path: Path) -> None:
    model = pico_llama(tied=False, hidden=128, intermediate=128)
    artifact = build_artifact(tmp_path / "artifact", model, spec)
    (tmp_path / "tokens.json").write_text(json.dumps(TOKENS.tolist()))
    port = free_port()
    processes = [
        subprocess.Popen(
            [
                *(os.environ["VLLM_PYTHON"], "-m", "tests.srr_core.serving.vllm_target", str(artifact.directory)),
                *(str(tmp_path / "tokens.json"), str(tmp_path / "logits.json")),
                *(str(process), str(num_processes), str(port)),
            ],
            cwd=Path(__file__).parents[3],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for process in range(num_processes)
    ]
    messages = [process.communicate(timeout=500)[1][-2000:] for process in processes]

    assert [process.returncode for process in processes] == [0] * num_processes, messages
    logits = torch.tensor(json.loads((tmp_path / "logits.json").read_text()))
    assert (logits - artifact.outputs).abs().max() < tolerance
