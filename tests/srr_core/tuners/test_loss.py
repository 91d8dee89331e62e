"""The chunked loss is the model's own, and packed examples have the losses they have alone; or it is noticed."""

import pytest
import torch
from transformers.modeling_outputs import CausalLMOutput

from srr_core.tuners.batches import IGNORED, label_batch, token_batch
from srr_core.tuners.examples import Example, example
from srr_core.tuners.loss import FLOAT32_TOLERANCE, DeferredHead, TokenLoss, keeps_apart
from tests.pico import ARCHITECTURES, build_model

CAUSAL = [name for name in ARCHITECTURES if "MaskedLM" not in name]
CAPPED = {"Gemma2ForCausalLM"}
MIXING = {"OPTForCausalLM"}
"""Its attention does not look at positions, so packed examples see each other; packing is refused for it."""
WINDOWS = [
    (example(1, list(range(10, 19)), [False] * 4 + [True] * 5), example(2, list(range(30, 36)), [True] * 6)),
    (example(3, list(range(50, 62)), [True] * 12),),
]


def batch(*, is_packed=True):
    windows = WINDOWS if is_packed else [(member,) for window in WINDOWS for member in window]
    return token_batch(windows, padding=0, is_packed=is_packed)


def test_batches_hold_targets_masks_and_positions():
    packed = batch()
    assert packed.inputs["position_ids"][0].tolist() == [*range(9), *range(6)]
    assert packed.inputs["position_ids"][1].tolist() == [*range(12), 0, 1, 2]
    assert packed.targets[0].tolist() == [IGNORED] * 4 + [14, 15, 16, 17, 18, IGNORED, *range(31, 36)]
    assert packed.num_targets == 5 + 5 + 11
    assert batch(is_packed=False).inputs["attention_mask"].sum(1).tolist() == [9, 6, 12]


def test_labels_are_whole_numbers_or_values():
    texts = [Example(1, example(1, [5, 6], [False, False]).ids, b"\0\0", label=1)]
    assert label_batch(texts, padding=0, is_number=False).targets.dtype == torch.long
    assert label_batch(texts, padding=0, is_number=True).targets.dtype == torch.float32


@pytest.mark.parametrize("architecture", CAUSAL)
def test_chunked_loss_and_its_gradient_are_those_of_whole_logits(architecture):
    model = build_model(architecture)
    plain = batch(is_packed=False)
    logits = model(**plain.inputs).logits[:, :-1].float()
    whole = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), plain.targets[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    whole.backward()
    wanted = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    loss = TokenLoss(model, chunk_tokens=4)
    assert loss.check(model, plain, tolerance=FLOAT32_TOLERANCE) == (architecture not in CAPPED)
    chunked = loss(model, plain)
    chunked.backward()
    torch.testing.assert_close(chunked, whole.detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-5)


def test_logits_of_a_batch_are_never_whole_in_memory():
    model = build_model("LlamaForCausalLM")
    loss = TokenLoss(model, chunk_tokens=4)
    sizes = []
    model.lm_head.register_forward_hook(lambda module, given, made: sizes.append((module.is_deferred, made.shape)))
    loss(model, batch())
    assert sizes[0] == (True, (2, 15, 32))
    assert {rows for is_deferred, (rows, *_) in sizes if not is_deferred} == {4, 1}


def test_head_gives_logits_again_afterwards():
    model = build_model("LlamaForCausalLM")
    before = model(**batch().inputs).logits
    TokenLoss(model, chunk_tokens=4)(model, batch())
    assert isinstance(model.lm_head, DeferredHead)
    assert torch.equal(model(**batch().inputs).logits, before)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_packed_examples_do_not_see_each_other(architecture):
    model = build_model(architecture)
    loss = TokenLoss(model, chunk_tokens=64)
    loss.check(model, batch(), tolerance=FLOAT32_TOLERANCE)
    apart = keeps_apart(loss, model, WINDOWS, padding=0, tolerance=FLOAT32_TOLERANCE, device=torch.device("cpu"))
    assert apart == (architecture not in MIXING)


def test_logits_that_are_more_than_the_output_of_the_head_are_noticed():
    model = build_model("LlamaForCausalLM")
    inner = model.forward

    def bent(**inputs):
        made = inner(**inputs)
        return CausalLMOutput(logits=3 * torch.tanh(made.logits))

    model.forward = bent
    loss = TokenLoss(model, chunk_tokens=64)
    assert loss.is_chunked
    assert not loss.check(model, batch(), tolerance=FLOAT32_TOLERANCE)
    logits = model(**batch().inputs, use_cache=False).logits[:, :-1].float().flatten(0, 1)
    targets = batch().targets[:, 1:].flatten()
    whole = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(loss(model, batch()), whole)


class Leaking(torch.nn.Module):
    """A model whose every token sees all before it in its window, whatever example they are of."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(259, 259)

    def get_output_embeddings(self):
        return None

    def forward(self, input_ids, **_):
        return CausalLMOutput(logits=self.embedding(input_ids).cumsum(1))


def test_model_that_mixes_packed_examples_is_noticed():
    model = Leaking()
    loss = TokenLoss.__new__(TokenLoss)
    loss._head, loss._chunk_tokens = None, 64
    assert not keeps_apart(loss, model, WINDOWS, padding=0, tolerance=FLOAT32_TOLERANCE, device=torch.device("cpu"))
