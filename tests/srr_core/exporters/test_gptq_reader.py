"""GPTQModel, the official reader of the GPTQ format, loads the export: every weight exact, L·R on top of packed layers.

It needs a newer torch than this project and gigabytes beside it, so it is no part of `dev`, and these tests are skipped
where it is missing; test_export.py decodes the same tensors by the definition of the format. They run in a process of
their own, since importing it changes transformers.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from srr_core.exporters.export import export
from srr_core.formats.artifact import open_artifact
from srr_core.recipe import GPTQFormatSpec, IntegerSpec, MXIntSpec
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, pico_llama

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("gptqmodel") is None or find_spec("optimum") is None,
        reason="the official reader is optional, it needs its own torch: pip install gptqmodel optimum",
    ),
]

READ = """
import sys
import torch
import transformers

folder, request, answer = sys.argv[1:]
request = torch.load(request)
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=request["dtype"], device_map="cpu").eval()
assert "srr_core" not in sys.modules
weights = {}
with torch.inference_mode():
    for name, inputs in request["layers"].items():
        layer = model.get_submodule(name)
        assert type(layer).__module__.startswith("peft."), type(layer)
        packed = layer.get_base_layer()
        assert type(packed).__module__.startswith("gptqmodel."), type(packed)
        weights[name] = packed(torch.eye(inputs, dtype=request["dtype"])).t()
    torch.save({"weights": weights, "logits": model(request["tokens"]).logits}, answer)
"""

SPECS = [
    *((MXIntSpec(num_bits=bits, block_size=32), torch.bfloat16) for bits in (2, 3, 4, 8)),
    *((IntegerSpec(num_bits=bits, group_size=64, symmetric=True), torch.float16) for bits in (3, 4)),
]


def read(folder, artifact, dtype, scratch):
    opened = open_artifact(artifact.directory)
    layers = {name: opened.read_layer(name).quantized.shape[1] for name in opened.module_names()}
    torch.save({"dtype": dtype, "layers": layers, "tokens": TOKENS}, scratch / "request.pt")
    command = [sys.executable, "-c", READ, folder, scratch / "request.pt", scratch / "answer.pt"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    return torch.load(scratch / "answer.pt")


@pytest.mark.parametrize(("spec", "dtype"), SPECS, ids=[f"{s.kind}-{s.num_bits}" for s, _ in SPECS])
def test_the_official_reader_has_the_same_weights_and_adds_the_correction(tmp_path: Path, spec, dtype):
    artifact = build_artifact(tmp_path / "a", pico_llama(biases=False, hidden=128, intermediate=256), spec)
    export(artifact.directory, tmp_path / "g", GPTQFormatSpec())
    found = read(tmp_path / "g", artifact, dtype, tmp_path)
    opened = open_artifact(artifact.directory)
    for name, weight in found["weights"].items():
        exact = opened.read_layer(name).quantized.dequantize()
        # With an fp16 scale the product of code and scale is rounded once, as by every reader of the format.
        assert torch.equal(weight, exact.to(dtype)), name
    # Activations in 16 bits: a hundredth is four roundings of bf16; without L·R the difference is several times that.
    error = (found["logits"].float() - artifact.outputs).norm() / artifact.outputs.norm()
    assert float(error) < 0.02
