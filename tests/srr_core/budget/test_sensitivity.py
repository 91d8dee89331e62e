"""Sensitivities of outputs, block by block, against the whole model differentiated at once."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from srr_core.budget.sensitivity import output_sensitivities
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.models.architecture import Architecture
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import Layer, plan_layers
from tests.pico import build_checkpoint


def sensitivities(source: Path, batches: list[Tensor], *, has_head: bool, ended: list[int] | None = None) -> Any:
    architecture, reader = Architecture(source), CheckpointReader(source)
    plan = plan_layers(architecture, reader.entries)

    def weight(layer: Layer) -> Tensor:
        found = reader[layer.tensor].float()
        return found.mT.contiguous() if layer.is_transposed else found

    return output_sensitivities(
        BlockwiseModel(architecture, reader, plan, torch.device("cpu")),
        architecture.model,
        plan.blocks,
        batches,
        source=weight,
        has_head=has_head,
        seed=3,
        after_block=lambda: ended.append(1) if ended is not None else None,
    )


def tokens() -> list[Tensor]:
    return list(torch.split(torch.randint(3, 250, (5, 12), generator=torch.Generator().manual_seed(0)), 2))


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM"])
def test_they_are_the_mean_squared_gradients_of_drawn_labels(name: str, tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source", name, dtype=torch.float32)
    ended: list[int] = []

    found = sensitivities(source, tokens(), has_head=True, ended=ended)

    model = getattr(transformers, name).from_pretrained(source, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(3)
    sums: dict[str, Tensor] = {}
    for layer in found:
        model.get_submodule(layer).register_forward_hook(
            lambda _m, _a, output, layer=layer: (
                output.register_hook(
                    lambda gradient: sums.__setitem__(
                        layer, sums.get(layer, 0) + gradient.flatten(0, 1).double().square().sum(0)
                    )
                )
                and None
            )
        )
    for batch in tokens():
        logits = model(input_ids=batch).logits.flatten(0, 1)
        labels = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator).flatten()
        torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    assert len(ended) == 4
    for layer, values in found.items():
        assert torch.allclose(values, sums[layer] / 60, rtol=1e-3, atol=1e-12)
        assert float(values.sum()) > 0


def test_experts_have_theirs_and_each_counts_what_is_routed_to_it(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source", "MixtralForCausalLM", dtype=torch.float32)

    found = sensitivities(source, tokens(), has_head=True)

    experts = {name: values for name, values in found.items() if ".experts." in name}
    assert len(experts) == 2 * 3 * 3
    assert sum(float(values.sum()) > 0 for values in experts.values()) == len(experts)
    assert {tuple(values.shape) for name, values in experts.items() if name.endswith("w2")} == {(32,)}
    assert {tuple(values.shape) for name, values in experts.items() if not name.endswith("w2")} == {(64,)}


def test_a_model_without_a_head_is_judged_by_its_hidden_states(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source", "BertForMaskedLM", dtype=torch.float32)

    found = sensitivities(source, tokens(), has_head=False)

    # What the last matrix of the last block puts out goes through one norm only: no output is without effect.
    last = found["bert.encoder.layer.1.output.dense"]
    assert bool((last > 0).all())


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source", dtype=torch.float32)

    first, second = (sensitivities(source, tokens(), has_head=True) for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)
