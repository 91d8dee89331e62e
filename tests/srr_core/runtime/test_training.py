"""`load(..., trainable=True)` gives a stock PeftModel: the packed base is frozen, the factors learn in float32."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.tuners import lora
from transformers import Trainer, TrainingArguments

from srr_core.errors import CheckpointError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.recipe import MXIntSpec
from srr_core.runtime import PackedLinear, load
from srr_core.runtime.training import trained_parameters
from srr_core.verification.digest import layer_digest
from tests.architecture.tree import ROOT
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, edit_tensors, pico_bert, pico_llama, pico_moe


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build_artifact(tmp_path_factory.mktemp("artifact") / "a", pico_llama(), MXIntSpec(num_bits=3))


def outputs(model):
    with torch.inference_mode():
        return model.eval()(TOKENS)[0]


def digests(model):
    packed = {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}
    return {name: layer_digest(module.quantized(), None, None) for name, module in packed.items()}


def train(model, *, steps=2, rate=1e-3):
    optimizer = torch.optim.AdamW([parameter for _, parameter in trained_parameters(model)], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("build", [pico_llama, pico_bert, lambda: pico_moe("mixtral")], ids=["llama", "bert", "moe"])
def test_trainable_model_is_a_stock_peft_model_that_starts_at_the_artifact(tmp_path, build):
    artifact = build_artifact(tmp_path / "a", build(), MXIntSpec(num_bits=3))
    model = load(artifact.directory, trainable=True, dtype=torch.float32)
    assert isinstance(model, PeftModel)
    assert model.training
    torch.testing.assert_close(outputs(model), artifact.outputs, rtol=1e-5, atol=1e-5)


def test_only_factors_are_trained(artifact):
    names = [name for name, _ in trained_parameters(load(artifact.directory, trainable=True))]
    assert len(names) == 28
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)


@pytest.mark.parametrize("build", [pico_llama, lambda: pico_moe("qwen")], ids=["llama", "moe"])
def test_packed_base_does_not_change_by_a_bit_while_every_factor_does(tmp_path, build):
    artifact = build_artifact(tmp_path / "a", build(), MXIntSpec(num_bits=3))
    model = load(artifact.directory, trainable=True, dtype=torch.float32)
    codes = digests(model)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trained_parameters(model)}
    train(model)
    assert digests(model) == codes
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in frozen.items())
    assert [name for name, parameter in trained_parameters(model) if torch.equal(parameter, before[name])] == []


def test_factors_of_a_bfloat16_model_move_at_small_learning_rates(artifact):
    model = load(artifact.directory, trainable=True, dtype=torch.bfloat16)
    factors = dict(trained_parameters(model))
    assert {parameter.dtype for parameter in factors.values()} == {torch.float32}
    before = {name: parameter.detach().clone() for name, parameter in factors.items()}
    train(model, steps=1, rate=1e-5)
    moved = sum(int(((before[n] != p) & (p.grad != 0)).sum()) for n, p in factors.items())
    assert moved >= 0.99 * sum(int((p.grad != 0).sum()) for p in factors.values())


def test_gradients_are_those_of_a_dense_copy(artifact):
    model = load(artifact.directory, trainable=True, dtype=torch.float32)
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    packed = {name: parameter.grad.clone() for name, parameter in trained_parameters(model)}
    for path, module in list(model.named_modules()):
        if isinstance(module, PackedLinear):
            dense = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
            dense.weight.data = module.quantized().dequantize()
            if module.bias is not None:
                dense.bias.data = module.bias.data
            model.set_submodule(path, dense.requires_grad_(False))
            model.get_submodule(path.rpartition(".")[0]).__class__ = lora.Linear
    model.zero_grad()
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    for name, parameter in trained_parameters(model):
        torch.testing.assert_close(packed[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_reaches_every_factor_with_the_same_gradient(artifact, reentrant):
    model = load(artifact.directory, trainable=True, dtype=torch.float32)
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    plain = {name: parameter.grad.clone() for name, parameter in trained_parameters(model)}
    model.zero_grad()
    model.get_base_model().activation_checkpointing_enable({"use_reentrant": reentrant})
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    for name, parameter in trained_parameters(model):
        torch.testing.assert_close(parameter.grad, plain[name])


def test_saved_adapter_is_loaded_again_on_the_same_base(artifact, tmp_path):
    model = load(artifact.directory, trainable=True, dtype=torch.float32)
    train(model)
    model.save_pretrained(tmp_path / "trained")
    again = load(artifact.directory, adapter=tmp_path / "trained", dtype=torch.float32)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert torch.equal(outputs(again), outputs(model))
    base = load(artifact.directory, adapter=None, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that transformers retires and PEFT reads
        stock = PeftModel.from_pretrained(base, tmp_path / "trained")
    assert torch.equal(outputs(stock), outputs(model))


def test_base_without_its_adapter_is_q_alone(artifact):
    base = load(artifact.directory, adapter=None, dtype=torch.float32)
    assert not any(".lora_" in name for name, _ in base.named_parameters())
    model = load(artifact.directory, trainable=True, dtype=torch.float32)
    with model.disable_adapter():
        assert torch.equal(outputs(base), outputs(model))


def test_artifact_of_rank_zero_has_nothing_to_train(tmp_path):
    artifact = build_artifact(tmp_path / "a", pico_llama(), MXIntSpec(num_bits=3), rank=0)
    with pytest.raises(ValueError, match="no L·R to train"):
        load(artifact.directory, trainable=True)


def test_adapter_of_another_model_is_refused(artifact, tmp_path):
    other = build_artifact(tmp_path / "o", pico_llama(hidden=32), MXIntSpec(num_bits=3))
    with pytest.raises(CheckpointError, match=ADAPTER_WEIGHTS):
        load(artifact.directory, adapter=other.directory)


@pytest.mark.parametrize(
    "value", [None, torch.full((4, 64), float("nan"), dtype=torch.bfloat16)], ids=["missing", "nan"]
)
def test_damaged_adapter_is_refused(artifact, tmp_path, value):
    model = load(artifact.directory, trainable=True, dtype=torch.float32)
    model.save_pretrained(tmp_path / "t")
    name = "base_model__model__model__layers__0__mlp__up_proj__lora_A__weight"
    edit_tensors(tmp_path / "t" / ADAPTER_WEIGHTS, **{name: value})
    with pytest.raises(CheckpointError, match=r"up_proj\.lora_A"):
        load(artifact.directory, adapter=tmp_path / "t")


def test_adapter_that_is_no_lora_is_refused(artifact, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / ADAPTER_CONFIG).write_text('{"peft_type": "IA3"}')
    with pytest.raises(CheckpointError, match="IA3"):
        load(artifact.directory, adapter=tmp_path / "t")


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        tokens = torch.arange(3, 13) + index
        return {"input_ids": tokens, "labels": tokens}


def run_trainer(artifact, folder, *, max_steps, resume=None):
    torch.manual_seed(0)
    model = load(artifact.directory, trainable=True, dtype=torch.float32)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=max_steps,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        save_steps=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of the Trainer on its own future
        Trainer(model=model, args=arguments, train_dataset=Rows()).train(resume_from_checkpoint=resume)
    return {name: parameter.detach() for name, parameter in trained_parameters(model)}


def test_stock_trainer_resumes_with_the_bits_of_an_undisturbed_run(artifact, tmp_path):
    whole = run_trainer(artifact, tmp_path / "whole", max_steps=4)
    run_trainer(artifact, tmp_path / "half", max_steps=2)
    resumed = run_trainer(artifact, tmp_path / "half", max_steps=4, resume=str(tmp_path / "half" / "checkpoint-2"))
    assert sorted(p.name for p in (tmp_path / "half" / "checkpoint-2").glob("*.safetensors")) == [ADAPTER_WEIGHTS]
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def start_process(artifact, folder, rank, world):
    module = "tests.srr_core.runtime.parallel_target"
    arguments = [
        str(artifact.directory),
        str(folder / "rendezvous"),
        str(rank),
        str(world),
        str(folder / f"{world}.pt"),
    ]
    return subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT)


def test_two_processes_train_as_one_does_with_the_examples_of_both(artifact, tmp_path: Path):
    processes = [
        start_process(artifact, tmp_path, 0, 2),
        start_process(artifact, tmp_path, 1, 2),
        start_process(artifact, tmp_path, 0, 1),
    ]
    assert [process.wait(timeout=240) for process in processes] == [0, 0, 0]
    alone, together = (torch.load(tmp_path / f"{world}.pt") for world in (1, 2))
    assert all(torch.equal(together[name], value) for name, value in alone.items())
