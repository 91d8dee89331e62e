"""How an embedding model turns hidden states into one vector, as its sentence-transformers files say."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from srr_core.errors import EvaluationError

PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

MODULES_FILE = "modules.json"
_FLAGS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_IGNORED = ("Transformer", "Normalize")
"""Modules that need nothing here: cosines do not see the length of a vector."""


@dataclass(frozen=True)
class Pooling:
    """One or more ways of pooling, whose vectors are joined in this order."""

    modes: tuple[PoolingMode, ...]
    max_length: int | None
    """Tokens of a sentence, where the files say so."""
    notes: tuple[str, ...] = ()
    """What the files ask for that is left out."""


def read_pooling(directory: Path) -> Pooling:
    """Return how the model of a folder pools; mean pooling, where it has no sentence-transformers files.

    Raises:
        EvaluationError: a file is damaged or asks for a way of pooling that is unknown.
    """
    listed = _read(directory / MODULES_FILE)
    if listed is None:
        return Pooling(("mean",), None)
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise EvaluationError(f"{MODULES_FILE} is no list of modules")
    kinds = {str(row.get("type", "")).rpartition(".")[2]: str(row.get("path", "")) for row in listed}
    modes: tuple[PoolingMode, ...] = ("mean",)
    if "Pooling" in kinds:
        folder = (directory / kinds["Pooling"]).resolve()
        if not folder.is_relative_to(directory.resolve()):
            raise EvaluationError(f"{MODULES_FILE} names a folder outside of the model: {kinds['Pooling']}")
        modes = _modes(_read(folder / "config.json"), f"{kinds['Pooling']}/config.json")
    left_out = sorted(set(kinds) - {*_IGNORED, "Pooling"})
    notes = tuple(f"the module {kind} behind the pooling is left out, for the source as well" for kind in left_out)
    sentence = _read(directory / "sentence_bert_config.json")
    length = sentence.get("max_seq_length") if isinstance(sentence, dict) else None
    return Pooling(modes, length if type(length) is int and length > 0 else None, notes)


def pool(
    hidden: Float[Tensor, "batch length width"], mask: Int64[Tensor, "batch length"], pooling: Pooling
) -> Float[Tensor, "batch pooled"]:
    """Return one vector for every sequence, in float32.

    Args:
        mask: 1 at tokens, 0 at padding; padding may be on either side.
    """
    states, weight = hidden.float(), mask.unsqueeze(-1).float()
    return torch.cat([_pooled(mode, states, weight, mask) for mode in pooling.modes], dim=-1)


def _pooled(mode: PoolingMode, states: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    count = weight.sum(1).clamp(min=1)
    rows = torch.arange(len(states), device=states.device)
    if mode == "cls":
        return states[rows, mask.argmax(1)]
    if mode == "lasttoken":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return states[rows, last]
    if mode == "max":
        return states.masked_fill(weight == 0, -torch.inf).amax(1)
    if mode == "weightedmean":
        # Later tokens of a decoder have seen more: token t counts t times.
        place = mask.cumsum(1).unsqueeze(-1) * weight
        return (states * place).sum(1) / place.sum(1).clamp(min=1)
    total = (states * weight).sum(1)
    return total / count.sqrt() if mode == "mean_sqrt_len_tokens" else total / count


def _modes(config: Any, name: str) -> tuple[PoolingMode, ...]:
    if not isinstance(config, dict):
        raise EvaluationError(f"{MODULES_FILE} names a pooling whose {name} is missing")
    given = config.get("pooling_mode")
    named = given if isinstance(given, list) else [given] if given is not None else []
    unknown = [mode for mode in named if mode not in _FLAGS.values()]
    unknown += [key for key, value in config.items() if key.startswith("pooling_mode_") and value and key not in _FLAGS]
    if unknown:
        raise EvaluationError(f"{name} asks for the pooling {unknown[0]!r}, which is unknown")
    flags = [mode for key, mode in _FLAGS.items() if config.get(key) is True]
    chosen: list[PoolingMode] = [mode for mode in _FLAGS.values() if mode in named] or flags
    return tuple(chosen) or ("mean",)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as cause:
        raise EvaluationError(f"{file.name} cannot be read: {cause}") from cause
