"""One process of vLLM's own model over an artifact, on a CPU, for test_vllm_itself.py; runs in vLLM's environment.

    python -m tests.srr_core.serving.vllm_target ARTIFACT TOKENS LOGITS PROCESS NUM_PROCESSES PORT

Everything is vLLM's: the claim through its engine configuration, the model, its loader, the fused and parallel layers.
Three parts are replaced, because they need a GPU or a CPU build: the attention between the projections, the
batch-invariant product (Triton), and compiled forms of rotary embeddings and activations, for which vLLM's own plain
ones run. TOKENS and LOGITS are JSON files.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"VLLM_TARGET_DEVICE": "cpu", "VLLM_BATCH_INVARIANT": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}

import torch
from torch.nn.functional import scaled_dot_product_attention
from vllm.config import set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.engine.arg_utils import EngineArgs
from vllm.forward_context import set_forward_context
from vllm.model_executor.custom_op import CustomOp
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.quantization.compressed_tensors.schemes import compressed_tensors_wNa16
from vllm.model_executor.model_loader import get_model_loader
from vllm.model_executor.model_loader.utils import initialize_model, process_weights_after_loading
from vllm.plugins import load_general_plugins
from vllm.utils.torch_utils import set_default_torch_dtype

from srr_core.serving.vllm_plugin import register


def _attention(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object) -> torch.Tensor:
    """One causal sequence: [tokens, heads * size]."""
    heads = [part.unflatten(-1, (-1, self.head_size)).transpose(0, 1)[None] for part in (query, key, value)]
    mixed = scaled_dot_product_attention(*heads, is_causal=True, enable_gqa=True)
    return mixed[0].transpose(0, 1).flatten(1)


def main(artifact: str, tokens: Path, logits: Path, process: int, num_processes: int, port: int) -> None:
    """Write the logits of every sequence."""
    load_general_plugins()
    register()  # without an installed distribution there is no entry point; a second call changes nothing
    compressed_tensors_wNa16.matmul_batch_invariant = torch.matmul
    Attention.forward = _attention
    CustomOp.dispatch_forward = lambda self, **_: self.forward_native
    options = {"skip_tokenizer_init": True, "enforce_eager": True, "dtype": "float32", "max_model_len": 32}
    config = EngineArgs(model=artifact, tokenizer=artifact, **options).create_engine_config()
    assert config.model_config.quantization == "srr-compressed-tensors"
    config.parallel_config.tensor_parallel_size = num_processes
    with set_current_vllm_config(config):
        init_distributed_environment(num_processes, process, f"tcp://127.0.0.1:{port}", process, "gloo")
        initialize_model_parallel(num_processes)
        with set_default_torch_dtype(torch.float32):
            model = initialize_model(config)
        get_model_loader(config.load_config).load_weights(model, config.model_config)
        process_weights_after_loading(model, config.model_config, torch.device("cpu"))
        found = []
        with torch.inference_mode(), set_forward_context(None, config):
            for sequence in json.loads(tokens.read_text()):
                hidden = model(torch.tensor(sequence), torch.arange(len(sequence)))
                found.append(model.compute_logits(hidden))
    if process == 0:
        logits.write_text(json.dumps(torch.stack(found).tolist()))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:]))
