"""Stock transformers, without this package's loader, gives the model whose weights are Q + L·R."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING
from transformers.utils.quantization_config import CompressedTensorsConfig

from srr_core.recipe import IntegerSpec, MXIntSpec
from srr_core.verification.reload import verify_logits
from srr_core.verification.verify import verify_artifact
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, pico_bert, pico_llama, pico_moe

LOAD_WITHOUT_US = """
import sys
import torch
import transformers

model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
assert "srr_core" not in sys.modules
with torch.inference_mode():
    torch.save(model(torch.load(sys.argv[2])).logits, sys.argv[3])
"""


@pytest.fixture(autouse=True)
def stock_transformers(monkeypatch):
    """transformers' tables as they are before our runtime is imported."""
    monkeypatch.setitem(AUTO_QUANTIZATION_CONFIG_MAPPING, "compressed-tensors", CompressedTensorsConfig)


def test_process_that_never_imports_us_gets_the_dense_sum(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3))
    torch.save(TOKENS, tmp_path / "tokens.pt")
    command = [sys.executable, "-c", LOAD_WITHOUT_US, artifact.directory, tmp_path / "tokens.pt", tmp_path / "y.pt"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), artifact.outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block_size", [16, 32])
@pytest.mark.parametrize("num_bits", [2, 3, 4, 8])
def test_causal_model_equals_dense_sum(tmp_path, num_bits, block_size):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=num_bits, block_size=block_size))
    model = AutoModelForCausalLM.from_pretrained(artifact.directory, dtype=torch.float32).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(TOKENS).logits, artifact.outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("num_bits", "group_size"), [(3, 32), (4, 32), (8, 32), (4, 16)])
def test_integer_groups_verify_and_reload(tmp_path, num_bits, group_size, symmetric):
    spec = IntegerSpec(num_bits=num_bits, group_size=group_size, symmetric=symmetric)
    artifact = build_artifact(tmp_path / "a", pico_llama(), spec)
    verify_artifact(artifact.directory, artifact.expected)
    check = verify_logits(artifact.directory, TOKENS)
    assert check.difference <= check.tolerance


def test_encoder_equals_dense_sum_with_and_without_its_head(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_bert(), MXIntSpec(num_bits=3))
    verify_artifact(artifact.directory, artifact.expected)
    verify_logits(artifact.directory, TOKENS)
    with_head = AutoModelForMaskedLM.from_pretrained(artifact.directory, dtype=torch.float32).eval()
    body = AutoModel.from_pretrained(artifact.directory, dtype=torch.float32).eval()
    with torch.inference_mode():
        torch.testing.assert_close(with_head(TOKENS).logits, artifact.outputs, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(body(TOKENS)[0], with_head.bert(TOKENS)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings(
    "ignore:The following (rank|alpha)_pattern keys did not match"
)  # peft looks at modules only
@pytest.mark.parametrize("kind", ["qwen3-moe", "mixtral"])
def test_mixture_of_experts_equals_dense_sum(tmp_path, kind):
    artifact = build_artifact(tmp_path / "a", pico_moe(kind), MXIntSpec(num_bits=3))
    verify_artifact(artifact.directory, artifact.expected)
    verify_logits(artifact.directory, TOKENS)
    # Experts come out in bf16, the dtype of their scales, whatever was asked for; the values are the same.
    model = AutoModelForCausalLM.from_pretrained(artifact.directory, dtype=torch.float32).eval().float()
    with torch.inference_mode():
        torch.testing.assert_close(model(TOKENS).logits, artifact.outputs, rtol=1e-5, atol=1e-6)
