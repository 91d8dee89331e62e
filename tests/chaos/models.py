"""The models of a run: small ones that compress in a second, and one that cannot be compressed."""

from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

from tests.chaos.installation import Installation
from tests.chaos.plan import SOURCES
from tests.pico import build_checkpoint

_CARD = b"---\nlicense: apache-2.0\n---\n# Pico\n"
_ARCHITECTURES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "GPT2LMHeadModel")


def seed_hub(installation: Installation, directory: Path) -> None:
    """Put every model of a plan into the Hub."""
    transformers.utils.logging.disable_progress_bar()
    for index in range(SOURCES):
        folder = build_checkpoint(
            directory / f"pico-{index}", _ARCHITECTURES[index % len(_ARCHITECTURES)], seed=index, max_shard_size="60KB"
        )
        _add(installation, f"acme/pico-{index}", folder)
    _add(installation, "acme/broken", build_checkpoint(directory / "broken", change=_break))


def _break(model: PreTrainedModel) -> None:
    weight = model.get_parameter("model.layers.1.mlp.up_proj.weight")
    weight[0, 0] = torch.nan


def _add(installation: Installation, repo_id: str, folder: Path) -> None:
    files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir()}
    installation.hub.add_model(repo_id, {**files, "README.md": _CARD})
