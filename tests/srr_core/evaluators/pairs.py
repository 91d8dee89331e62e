"""A pico model and a noisy copy of it, to be measured side by side."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from srr_core.calibration.dataset import TokenWindows
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.evaluators import ModelPair
from srr_core.models.architecture import Architecture
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import plan_layers
from tests.pico import build_checkpoint

LENGTH = 16


def windows(count: int = 5) -> TokenWindows:
    return TokenWindows(torch.randint(3, 259, (count, LENGTH), generator=torch.Generator().manual_seed(0)))


def noisy_copy(directory: Path, destination: Path, *, only: str = "layers", size: float = 0.02) -> Path:
    """Return a copy of a checkpoint in which tensors whose name has a word in it are disturbed."""
    destination.mkdir()
    (destination / "config.json").write_bytes((directory / "config.json").read_bytes())
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + size * torch.randn(tensor.shape, generator=generator) if only in name else tensor
        for name, tensor in load_file(directory / "model.safetensors").items()
    }
    save_file(tensors, destination / "model.safetensors", metadata={"format": "pt"})
    return destination


def source_folder(folder: Path, architecture: str = "LlamaForCausalLM") -> Path:
    return build_checkpoint(folder / "source", architecture, dtype=torch.float32)


def opened(directory: Path) -> BlockwiseModel:
    architecture, weights = Architecture(directory), CheckpointReader(directory)
    return BlockwiseModel(architecture, weights, plan_layers(architecture, weights.entries), torch.device("cpu"))


def pair(source: Path, compressed: Path, *, count: int = 5, paired: int = 5) -> ModelPair:
    return ModelPair(
        source=opened(source),
        compressed=opened(compressed),
        source_folder=source,
        artifact=compressed,
        windows=windows(count),
        batch_size=2,
        paired_windows=paired,
    )


@torch.no_grad()
def stock_log_probabilities(directory: Path, ids: Tensor) -> Tensor:
    """Return log-probabilities of the next token in float64, from the whole stock model."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return model(input_ids=ids).logits[:, :-1].double().log_softmax(-1)
