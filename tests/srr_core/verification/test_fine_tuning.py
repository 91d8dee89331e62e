"""Recipes of PEFT on an artifact, in a process that never imports us: the safe ones are those of the card."""

import json
import subprocess
import sys

import pytest
import torch

from srr_core.recipe import IntegerSpec
from tests.srr_core.exporters.artifacts import TOKENS, build_artifact, pico_llama

pytestmark = pytest.mark.slow

TUNE = """
import json
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

folder, scratch = sys.argv[1:]
tokens, wanted = torch.load(scratch + "/tokens.pt"), torch.load(scratch + "/outputs.pt")
found = {}


def loaded():
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def config():
    return LoraConfig(r=2, target_modules=["q_proj", "v_proj"])


def distance(model, target=wanted):
    with torch.inference_mode():
        return float((model.eval()(tokens)[0] - target).norm() / target.norm())


def two_adapters(model):
    # The first of the card's two ways.
    model.set_adapter(["default", "tuned"])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".tuned." in name)
    return model


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found["get_peft_model"] = distance(get_peft_model(loaded(), config()))
found["warned"] = [str(warning.message) for warning in caught]

model = loaded()
model.add_adapter(config(), adapter_name="tuned")
found["add_adapter alone"] = distance(model)
two_adapters(model)
found["add_adapter and set_adapter"] = distance(model)
before = {name: value.clone() for name, value in model.named_parameters() if ".default." in name}
optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=1.0)
for _ in range(3):
    loss = model.train()(tokens, labels=tokens).loss
    found.setdefault("first loss", float(loss))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
found["last loss"] = float(loss)
after = dict(model.named_parameters())
found["correction moved"] = max(float((after[name] - value).abs().max()) for name, value in before.items())
with torch.inference_mode():
    tuned = model.eval()(tokens)[0]
model.set_adapter("tuned")
model.save_pretrained(scratch + "/tuned")
again = loaded()
again.load_adapter(scratch + "/tuned", adapter_name="tuned")
again.set_adapter(["default", "tuned"])
found["saved and loaded"] = distance(again, tuned)

dense = PeftModel.from_pretrained(loaded(), folder).merge_and_unload()
found["merge_and_unload"] = distance(dense)
found["merged, then get_peft_model"] = distance(get_peft_model(dense, config()))
over = PeftModel.from_pretrained(loaded(), scratch + "/tuned")
found["PeftModel.from_pretrained of a tuned one"] = distance(over, tuned)
assert "srr_core" not in sys.modules
print(json.dumps(found))
"""
SAME = 1e-6


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("tuning")
    artifact = build_artifact(
        scratch / "artifact", pico_llama(), IntegerSpec(num_bits=3, group_size=32, symmetric=True)
    )
    torch.save(TOKENS, scratch / "tokens.pt")
    torch.save(artifact.outputs, scratch / "outputs.pt")
    command = [sys.executable, "-c", TUNE, str(artifact.directory), str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_first_way_of_the_card_starts_at_the_sum_and_trains_the_new_adapter_alone(found):
    assert found["add_adapter and set_adapter"] < SAME
    assert found["last loss"] < found["first loss"]
    assert found["correction moved"] == 0


def test_what_the_first_way_saved_gives_the_same_outputs_again(found):
    assert found["saved and loaded"] < SAME


def test_the_second_way_of_the_card_is_the_sum_as_a_dense_model(found):
    assert found["merge_and_unload"] < SAME
    assert found["merged, then get_peft_model"] < SAME


def test_the_ways_the_card_warns_of_lose_the_correction(found):
    # When one of these starts to pass, the card's warning can go.
    for way in ("get_peft_model", "add_adapter alone", "PeftModel.from_pretrained of a tuned one"):
        assert found[way] > 1e-3, way
    assert any("with PEFT for a second time" in message for message in found["warned"])
