"""llama.cpp itself reads the exported files, computes Q + L·R with them, and writes text.

It is built from source (minutes), so it is the optional extra `llama-cpp` and not part of `dev`: these tests, unlike
those of other readers, are skipped where it is missing. llama.cpp rounds activations to 8 bits before it multiplies
them with packed weights, so its outputs are compared with a bound measured on the same model in torch with the same
rounding: twice that model's own distance from exact products.
"""

import math
import shutil
from importlib.util import find_spec

import gguf
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples import DEMO_MODEL, EVALUATION_TEXT
from srr_core.exporters.export import export
from srr_core.exporters.gguf_naming import Naming
from srr_core.formats.artifact import open_artifact
from srr_core.recipe import GGUFSpec, IntegerSpec, MXIntSpec
from srr_core.verification.reload import dense_config, dense_model
from tests.pico import build_model
from tests.srr_core.exporters.artifacts import build_artifact, pico_llama
from tests.srr_core.exporters.sentencepiece import sentencepiece_tokenizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llama_cpp") is None,
        reason="llama.cpp is optional, it compiles for minutes: pip install 'srr-compression[llama-cpp]'",
    ),
]

NUM_TOKENS = 100
RANK = 16
F32 = 0
"""ggml's number of the type; the default cache of keys and values would round them to fp16."""


class Llama:
    """A model in llama.cpp on one thread, keys and values in float32."""

    def __init__(self, folder, *, with_adapter=True):
        import llama_cpp

        adapter = folder / "adapter.gguf"
        self.model = llama_cpp.Llama(
            model_path=str(folder / "model.gguf"),
            lora_path=str(adapter) if with_adapter and adapter.exists() else None,
            n_ctx=128,
            logits_all=True,
            n_threads=1,
            n_threads_batch=1,
            type_k=F32,
            type_v=F32,
            verbose=False,
        )

    def logits(self, token_ids):
        self.model.reset()
        self.model.eval(token_ids)
        return torch.from_numpy(self.model.scores[: len(token_ids)].copy())


def q8_0(x: Tensor) -> Tensor:
    """Activations as products with simple blocks and MXFP4 see them: 8 bits, one fp16 scale per 32."""
    blocks = x.unflatten(-1, (-1, 32))
    step = blocks.abs().amax(-1, keepdim=True) / 127
    codes = torch.where(step > 0, blocks / step, 0).round()
    return (codes * step.half().float()).flatten(-2)


def q8_k(x: Tensor) -> Tensor:
    """The same for super-blocks: one float32 scale per 256."""
    blocks = x.unflatten(-1, (-1, 256))
    step = blocks.abs().amax(-1, keepdim=True) / 127
    return (torch.where(step > 0, blocks / step, 0).round() * step).flatten(-2)


ROUNDINGS = {
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "MXFP4"), q8_0),
    **dict.fromkeys(("Q2_K", "Q3_K", "Q6_K"), q8_k),
    "BF16": lambda x: x.bfloat16().float(),
    "F32": lambda x: x,
}


class RoundedLinear(nn.Module):
    """x·Qᵀ with the activations rounded, plus x·Rᵀ·Lᵀ with exact ones: what llama.cpp computes."""

    def __init__(self, rounding, weight, bias=None, left=None, right=None):
        super().__init__()
        self.rounding, self.weight, self.bias, self.left, self.right = rounding, weight, bias, left, right

    def forward(self, x):
        y = nn.functional.linear(self.rounding(x), self.weight, self.bias)
        return y if self.left is None else y + (x @ self.right.t()) @ self.left.t()


def rounded_model(artifact, file):
    """The artifact in torch, every product rounded as the block type in `file` asks for."""
    naming = Naming(artifact.config["architectures"][0], dense_config(artifact))
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}
    model = dense_model(artifact)
    for module in artifact.module_names():
        layer = artifact.read_layer(module)
        rounding = ROUNDINGS[types[naming.name(f"{module}.weight")]]
        weight, bias = layer.quantized.dequantize(), model.get_submodule(module).bias
        model.set_submodule(module, RoundedLinear(rounding, weight, bias, layer.left.float(), layer.right.float()))
    head = types.get("output.weight", types["token_embd.weight"])
    model.lm_head = RoundedLinear(ROUNDINGS[head], model.lm_head.weight.data)
    return model


def outputs(model, token_ids):
    with torch.inference_mode():
        return model(torch.tensor([token_ids])).logits[0]


def distance(found, wanted):
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def perplexity(logits, token_ids):
    return math.exp(nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(token_ids[1:])))


def write_artifact(folder, model, spec):
    built = build_artifact(folder, model, spec, rank=RANK)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / name, built.directory / name)
    return open_artifact(built.directory)


def token_ids():
    text = EVALUATION_TEXT.read_text(encoding="utf-8")[:2000]
    return AutoTokenizer.from_pretrained(DEMO_MODEL)(text)["input_ids"][:NUM_TOKENS]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The bundled model in 3 bits, and its two files."""
    folder = tmp_path_factory.mktemp("demo")
    model = AutoModelForCausalLM.from_pretrained(DEMO_MODEL, dtype=torch.bfloat16)
    artifact = write_artifact(folder / "a", model, MXIntSpec(num_bits=3))
    export(artifact.directory, folder / "g", GGUFSpec(merged="none"))
    return artifact, folder / "g"


def test_the_pair_computes_the_correction_as_well_as_the_weights(demo):
    artifact, files = demo
    exact = outputs(dense_model(artifact), token_ids())
    bound = 2 * distance(outputs(rounded_model(artifact, files / "model.gguf"), token_ids()), exact)
    pair, alone = Llama(files), Llama(files, with_adapter=False)
    assert distance(pair.logits(token_ids()), exact) <= bound
    assert distance(alone.logits(token_ids()), exact) > bound


def test_the_pair_has_the_perplexity_of_the_artifact(demo):
    artifact, files = demo
    exact, rounded = (
        perplexity(outputs(model, token_ids()), token_ids())
        for model in (dense_model(artifact), rounded_model(artifact, files / "model.gguf"))
    )
    found = perplexity(Llama(files).logits(token_ids()), token_ids())
    # Roundings move single tokens both ways; their mean moves as little as that of the rounded model, within 1 %.
    assert found == pytest.approx(exact, rel=max(0.01, 2 * abs(rounded / exact - 1)))


def test_the_pair_splits_text_as_the_model_does_and_writes_more_of_it(demo):
    _, files = demo
    llama = Llama(files).model
    text = "The quick brown fox, 42 times; it's\n here."
    assert llama.tokenize(text.encode(), add_bos=True) == AutoTokenizer.from_pretrained(DEMO_MODEL)(text)["input_ids"]
    written = llama.create_completion("The river", max_tokens=12, temperature=0.0)
    assert written["usage"]["completion_tokens"] > 0
    assert written["choices"][0]["text"].strip()


def test_the_pieces_of_sentencepiece_are_joined_as_the_model_joins_them(tmp_path):
    tokenizer = sentencepiece_tokenizer()
    built = build_artifact(tmp_path / "a", pico_llama(biases=False, vocab=len(tokenizer)), MXIntSpec(num_bits=4))
    tokenizer.save_pretrained(built.directory)
    export(built.directory, tmp_path / "g", GGUFSpec(merged="none"))
    llama = Llama(tmp_path / "g").model
    text = (
        "the quick brown fox, 42  times; it's\n here. naïve 日本 " + EVALUATION_TEXT.read_text("utf-8")[:2000].lower()
    )
    text = text.replace("<unk>", "unknown")
    assert llama.tokenize(text.encode(), add_bos=True) == tokenizer(text)["input_ids"]


def test_the_first_token_written_is_the_likeliest_of_the_artifact(demo):
    artifact, files = demo
    prompt = token_ids()[:20]
    exact = outputs(dense_model(artifact), prompt)[-1]
    written = next(iter(Llama(files).model.generate(prompt, temp=0.0)))
    # Roundings may swap two tokens that are nearly equal, no others.
    assert float(exact.max() - exact[written]) <= 0.02 * float(exact.max() - exact.min())


BLOCK_TYPES = [
    (MXIntSpec(num_bits=2, block_size=32), {"MXFP4", "Q2_K"}),
    (MXIntSpec(num_bits=3, block_size=32), {"MXFP4", "Q3_K"}),
    (MXIntSpec(num_bits=4, block_size=32), {"Q4_0"}),
    (MXIntSpec(num_bits=5, block_size=32), {"Q5_0"}),
    (MXIntSpec(num_bits=8, block_size=32), {"Q8_0"}),
    (MXIntSpec(num_bits=2, block_size=16, exponent_window=3), {"Q2_K"}),
    (MXIntSpec(num_bits=3, block_size=16, exponent_window=5), {"Q3_K"}),
    (MXIntSpec(num_bits=4, block_size=16, exponent_window=7), {"Q6_K"}),
    (IntegerSpec(num_bits=4, group_size=128, symmetric=True), {"Q4_0"}),
]


@pytest.mark.parametrize(
    ("spec", "types"), BLOCK_TYPES, ids=[f"{s.kind}-{s.bits_per_weight:.2f}" for s, _ in BLOCK_TYPES]
)
def test_every_block_type_multiplies_as_the_artifact_does(tmp_path, spec, types):
    model = pico_llama(biases=False, hidden=256, intermediate=512, vocab=4096)
    artifact = write_artifact(tmp_path / "a", model, spec)
    export(artifact.directory, tmp_path / "g", GGUFSpec(merged="none"))
    written = {tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "g" / "model.gguf").tensors}
    assert written - {"F32"} <= types
    exact = outputs(dense_model(artifact), token_ids())
    rounded = outputs(rounded_model(artifact, tmp_path / "g" / "model.gguf"), token_ids())
    assert distance(Llama(tmp_path / "g").logits(token_ids()), exact) <= 2 * distance(rounded, exact)


FAMILIES = ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_runs_as_a_pair_and_merged(tmp_path, architecture):
    model = build_model(architecture, vocab_size=4096, sliding_window=None)
    artifact = write_artifact(tmp_path / "a", model, MXIntSpec(num_bits=4))
    prompt = token_ids()[:40]
    exact = outputs(dense_model(artifact), prompt)
    export(artifact.directory, tmp_path / "g", GGUFSpec(merged="none"))
    rounded = outputs(rounded_model(artifact, tmp_path / "g" / "model.gguf"), prompt)
    assert distance(Llama(tmp_path / "g").logits(prompt), exact) <= 2 * distance(rounded, exact)
    export(artifact.directory, tmp_path / "m", GGUFSpec(merged="f32"))
    assert distance(Llama(tmp_path / "m").logits(prompt), exact) < 1e-5


@pytest.mark.parametrize("biases", [False, True])
def test_the_merged_file_in_float32_is_the_artifact_up_to_rounding(tmp_path, biases):
    model = pico_llama(biases=biases, hidden=256, intermediate=512, vocab=4096)
    artifact = write_artifact(tmp_path / "a", model, MXIntSpec(num_bits=3))
    export(artifact.directory, tmp_path / "g", GGUFSpec(merged="f32"))
    exact = outputs(dense_model(artifact), token_ids())
    # Everything is float32 on both sides: sums in another order, and llama.cpp's own exp, sin and cos.
    assert distance(Llama(tmp_path / "g").logits(token_ids()), exact) < 1e-5
