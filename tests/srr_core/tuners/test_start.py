"""Every start goes with every quantizer, begins exactly at the compressed model, and is whole as a folder."""

import warnings

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertModel

from srr_core.errors import UnsupportedModelError
from srr_core.formats.adapter import ADAPTER_WEIGHTS
from srr_core.recipe import GPTQSpec, IntegerSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec
from srr_core.recipe.tuning import STARTS
from srr_core.runtime import PackedLinear, load
from srr_core.runtime.training import trained_parameters
from srr_core.tuners.classifier import Labels
from srr_core.tuners.folders import HEAD_FILE, base_digest, dense_layers
from srr_core.tuners.start import open_start, write_base, write_start
from tests.srr_core.tuners.starts import RANK, begin, source

TOKENS = torch.arange(3, 23).reshape(2, 10)
CPU = torch.device("cpu")
QUANTIZERS = {
    "mxint": MXIntSpec(num_bits=3),
    "integer": IntegerSpec(num_bits=3, group_size=32),
    "normal-float": NormalFloatSpec(num_bits=3, block_size=32),
    "gptq": GPTQSpec(grid=IntegerSpec(num_bits=3, group_size=32)),
    "quip-sharp": QuIPSharpSpec(num_bits=2),
}
LABELS = Labels(("no", "perhaps", "yes"), padding=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return source(tmp_path_factory.mktemp("llama"))


def outputs(model):
    with torch.inference_mode():
        return model.eval()(TOKENS)[0]


def opened(start):
    return open_start(start, device=CPU, dtype=torch.float32)


def one_step(model):
    optimizer = torch.optim.AdamW([parameter for _, parameter in trained_parameters(model)], lr=1e-2)
    model.train()(TOKENS)[0].float().square().mean().backward()
    optimizer.step()


def packed_bits(model):
    layers = (module for module in model.modules() if isinstance(module, PackedLinear))
    return [tensor.clone() for layer in layers for tensor in layer.quantized().tensors().values()]


PAIRS = [
    pytest.param(name, kind, marks=() if name == "srr" or kind == "mxint" else pytest.mark.slow)
    for name in STARTS
    if name != "lora"
    for kind in QUANTIZERS
]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_every_start_runs_on_every_quantizer_and_begins_at_the_compressed_model(checkpoint, tmp_path, name, kind):
    start, facts, compressed = begin(checkpoint, tmp_path, name, quantizer=QUANTIZERS[kind])
    model = opened(start)
    wanted = outputs(load(compressed, dtype=torch.float32))
    torch.testing.assert_close(outputs(model), wanted, rtol=1e-5, atol=1e-5)
    assert facts.is_fresh == (name == "qlora")
    before, bits = outputs(model), packed_bits(model)
    one_step(model)
    assert all(torch.equal(now, then) for now, then in zip(packed_bits(model), bits, strict=True))
    assert not torch.equal(outputs(model), before)
    assert base_digest(start) == base_digest(compressed)


def test_sixteen_bit_start_is_the_model_itself_with_a_fresh_adapter(checkpoint, tmp_path):
    start, facts, _ = begin(checkpoint, tmp_path, "lora")
    model = opened(start)
    assert facts.is_fresh
    plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    assert torch.equal(outputs(model), outputs(plain))
    one_step(model)
    assert not torch.equal(outputs(model), outputs(plain))
    layers = dense_layers(start)
    assert len(layers) == 14
    assert base_digest(start, layers) == base_digest(checkpoint, layers)


def test_same_layers_learn_in_sixteen_bit_and_on_codes(checkpoint, tmp_path):
    names = [
        {name for name, _ in trained_parameters(opened(begin(checkpoint, tmp_path / start, start)[0]))}
        for start in ("lora", "qlora", "srr")
    ]
    assert names[0] == names[1] == names[2]


def test_fresh_adapter_comes_from_its_seed_alone(checkpoint, tmp_path):
    first, second, other = (
        load_file(begin(checkpoint, tmp_path / str(number), "lora", seed=seed)[0] / ADAPTER_WEIGHTS)
        for number, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first if ".lora_A." in name)
    right = first["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].float()
    assert float(right.abs().max()) <= 32**-0.5 + 1e-3  # uniform within 1/sqrt(in), as PEFT begins
    assert float(right.std()) == pytest.approx(32**-0.5 / 3**0.5, rel=0.2)


ENCODERS = ["BertModel", "BertForMaskedLM", "RobertaForMaskedLM"]


def classifier(tmp_path, architecture, name):
    if architecture == "BertModel":
        checkpoint = source(tmp_path, "BertForMaskedLM")
        BertModel.from_pretrained(checkpoint).save_pretrained(checkpoint)
    else:
        checkpoint = source(tmp_path, architecture)
    return checkpoint, *begin(checkpoint, tmp_path / "work", name, labels=LABELS)


@pytest.mark.parametrize("name", ["lora", "qlora", "srr"])
@pytest.mark.parametrize("architecture", [*ENCODERS, "LlamaForCausalLM", "GPT2LMHeadModel"])
def test_any_model_becomes_a_classifier_whose_head_alone_is_new(tmp_path, architecture, name):
    _, start, facts, compressed = classifier(tmp_path, architecture, name)
    model = opened(start)
    assert outputs(model).shape == (2, 3)
    trained = {key for key, _ in trained_parameters(model) if ".lora_" not in key}
    assert trained == {f"base_model.model.{key}" for key in load_file(start / HEAD_FILE)}
    assert set(facts.empty) == set(load_file(start / HEAD_FILE))
    if name == "lora":
        plain = AutoModelForSequenceClassification.from_pretrained(
            start, dtype=torch.float32, adapter_kwargs={"subfolder": "none"}
        )
        assert torch.equal(outputs(model), outputs(plain))
    else:
        assert base_digest(start) == base_digest(compressed)


@pytest.mark.parametrize("architecture", [*ENCODERS, "LlamaForCausalLM"])
def test_stock_transformers_loads_the_start_of_a_classifier(tmp_path, architecture):
    _, start, _, _ = classifier(tmp_path, architecture, "srr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = AutoModelForSequenceClassification.from_pretrained(start, dtype=torch.float32)
    torch.testing.assert_close(outputs(stock), outputs(opened(start)), rtol=1e-4, atol=1e-4)
    assert stock.config.id2label == {0: "no", 1: "perhaps", 2: "yes"}


def test_pooler_that_the_source_has_stays_frozen_and_one_it_lacks_is_trained(tmp_path):
    with_pooler = classifier(tmp_path / "a", "BertModel", "srr")[2]
    without = classifier(tmp_path / "b", "BertForMaskedLM", "srr")[2]
    assert with_pooler.head == ("classifier",)
    assert without.head == ("classifier", "bert.pooler")


def test_dead_weights_of_a_language_model_are_left_out_of_a_classifier(tmp_path):
    _, start, _, _ = classifier(tmp_path, "LlamaForCausalLM", "srr")
    names = {name for file in start.glob("model-0*.safetensors") for name in load_file(file)}
    assert not any("lm_head" in name for name in names)


@pytest.mark.parametrize(("names", "goes_on"), [(LABELS.names, True), (("a", "b"), False)])
def test_head_goes_on_for_the_labels_it_was_trained_for_and_begins_anew_for_others(tmp_path, names, goes_on):
    _, start, _, _ = classifier(tmp_path, "BertForMaskedLM", "srr")
    (tmp_path / "base").mkdir()
    (tmp_path / "again").mkdir()
    facts = write_base(start, tmp_path / "base", labels=Labels(names, padding=0))
    write_start(tmp_path / "base", tmp_path / "again", facts, rank=RANK, seed=5)
    before, after = load_file(start / HEAD_FILE), load_file(tmp_path / "again" / HEAD_FILE)
    assert torch.equal(after["bert.pooler.dense.weight"], before["bert.pooler.dense.weight"])
    assert torch.equal(after["classifier.weight"], before["classifier.weight"]) == goes_on
    assert facts.head == ("classifier", "bert.pooler")
    assert outputs(opened(tmp_path / "again")).shape == (2, len(names))


def test_encoder_is_refused_as_a_language_model(tmp_path):
    with pytest.raises(UnsupportedModelError, match="does not predict the next token"):
        begin(source(tmp_path, "BertForMaskedLM"), tmp_path / "work", "lora")


def test_bfloat16_base_has_a_head_and_factors_in_float32(tmp_path):
    _, start, _, _ = classifier(tmp_path, "RobertaForMaskedLM", "srr")
    model = open_start(start, device=CPU, dtype=torch.bfloat16)
    assert {parameter.dtype for _, parameter in trained_parameters(model)} == {torch.float32}
    assert model.get_base_model().dtype == torch.bfloat16
    assert torch.isfinite(outputs(model)).all()


def test_dropout_is_in_the_way_of_the_factors_only_while_training(checkpoint, tmp_path):
    start, _, _ = begin(checkpoint, tmp_path, "srr")
    model = open_start(start, device=CPU, dtype=torch.float32, dropout=0.5)
    assert any(isinstance(module, nn.Dropout) and module.p == 0.5 for module in model.modules())
    torch.testing.assert_close(outputs(model), outputs(opened(start)))
    model.train()
    with torch.no_grad():
        assert not torch.equal(model(TOKENS)[0], model(TOKENS)[0])


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys")  # of PEFT, while it looks at modules first
@pytest.mark.parametrize("name", ["qlora", "srr"])
def test_mixtures_of_experts_start_too(tmp_path, name):
    checkpoint = source(tmp_path, "MixtralForCausalLM")
    start, _, compressed = begin(checkpoint, tmp_path / "work", name)
    model = opened(start)
    torch.testing.assert_close(outputs(model), outputs(load(compressed, dtype=torch.float32)), rtol=1e-5, atol=1e-5)
    one_step(model)
    with pytest.raises(ValueError, match="dropout"):
        open_start(start, device=CPU, dtype=torch.float32, dropout=0.1)
