"""Weights of a block by layer: whatever the model class keeps them in."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from srr_core.checkpoint.reader import CheckpointReader
from srr_core.models.architecture import Architecture
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.conversion import converted
from srr_core.models.layers import Layer, plan_layers
from srr_core.models.weights import BlockWeights
from tests.pico import ARCHITECTURES, build_checkpoint


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_layer_of_every_architecture_is_written_and_has_its_gradient(name: str, tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source", name, dtype=torch.float32)
    architecture, reader = Architecture(source), CheckpointReader(source)
    reader = reader.showing(converted(architecture.model, reader.entries))
    plan = plan_layers(architecture, reader.entries)
    model = BlockwiseModel(architecture, reader, plan, torch.device("cpu"))
    ids = torch.randint(3, 200, (4, 16), generator=torch.Generator().manual_seed(0))
    stream = model.start([ids])
    block = plan.blocks[0]

    def weight(layer: Layer) -> Tensor:
        found = reader[layer.tensor]
        return found.mT.contiguous() if layer.is_transposed else found

    with model.loaded_block(0) as module:
        weights = BlockWeights(architecture.model, block, weight)
        names = [layer.name for layer in block.layers]
        assert all(layer in weights for layer in names)
        target = model.forward_block(stream, module, 0).detach()

        # Against a difference of the loss: the layer's gradient says how the loss changes along a direction.
        for layer in block.layers:
            weights.require_gradients(names, wanted=True)
            model.forward_block(stream, module, 0).square().mean().backward()
            found = weights.gradient(layer.name)
            assert found is not None
            direction = found / found.norm().clamp_min(1e-12)
            step = 1e-2
            losses = []
            for sign in (1, -1):
                weights.require_gradients(names, wanted=False)
                weights.write(layer.name, weight(layer) + sign * step * direction)
                losses.append(float(model.forward_block(stream, module, 0).double().square().mean()))
            weights.write(layer.name, weight(layer))
            assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float(found.norm()), rel=0.05, abs=2e-5)

        assert torch.equal(model.forward_block(stream, module, 0), target)
