"""Our own layout: verified like the stock one, and never loaded as random weights by those without our package."""

import subprocess
import sys

import pytest
import torch
import transformers

from srr_core.formats.layouts import native_layout
from srr_core.recipe import MXIntSpec, NormalFloatSpec
from srr_core.verification.reload import verify_logits
from srr_core.verification.verify import verify_artifact
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, pico_llama

LOAD_WITHOUT_US = """
import sys
import transformers

assert "srr_core" not in sys.modules
try:
    transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
except RuntimeError as error:
    sys.exit(0 if "size mismatch" in str(error) or "mismatch" in str(error) else f"another error: {error}")
sys.exit("it loaded")
"""


def pico_gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=96, n_positions=64)
    return transformers.GPT2LMHeadModel(config).eval()


def test_normal_float_artifact_is_verified_through_our_loader(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), NormalFloatSpec(num_bits=4, block_size=32))
    verify_artifact(artifact.directory, artifact.expected)
    check = verify_logits(artifact.directory, TOKENS)
    assert check.difference <= check.tolerance


def test_transposed_model_is_verified_through_our_loader(tmp_path):
    spec = MXIntSpec(num_bits=3)
    layout = native_layout(spec, all_linear=False)
    artifact = build_artifact(tmp_path / "a", pico_gpt2(), spec, layout=layout)
    verify_artifact(artifact.directory, artifact.expected)
    verify_logits(artifact.directory, TOKENS)


def test_inputs_that_are_no_multiple_of_the_group_are_verified(tmp_path):
    model = pico_llama(hidden=64, intermediate=72)
    layout = native_layout(MXIntSpec(num_bits=3), in_features=[64, 72])
    artifact = build_artifact(tmp_path / "a", model, MXIntSpec(num_bits=3), layout=layout)
    verify_artifact(artifact.directory, artifact.expected)
    verify_logits(artifact.directory, TOKENS)


@pytest.mark.parametrize("rank", [0, 4])
def test_without_our_package_loading_fails_loudly(tmp_path, rank):
    artifact = build_artifact(tmp_path / "a", pico_llama(), NormalFloatSpec(num_bits=4, block_size=32), rank=rank)
    command = [sys.executable, "-c", LOAD_WITHOUT_US, str(artifact.directory)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
