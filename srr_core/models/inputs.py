"""What a model is called with to read windows of text: the ids, or for an encoder-decoder each window in two halves.

The encoder reads the first half of a window. The decoder is given the token it starts with and the second half, so that
from its start on it predicts every token of that half, as it does in training.
"""

import inspect
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedConfig

DECODER_IDS = "decoder_input_ids"
_OF_TEXT = frozenset({"input_ids", "inputs"})
"""What classes that read text call their main input; others are images and sound, or parts of one."""
_START_FIELDS = ("decoder_start_token_id", "bos_token_id", "pad_token_id", "eos_token_id")
"""Where a configuration says what a decoder starts with, the surest first."""


def reads_in_halves(model: nn.Module) -> bool:
    """Whether a model is an encoder-decoder: what it is configured as, and what its class can be called with."""
    config: Any = model.config
    return bool(getattr(config, "is_encoder_decoder", False)) and takes_halves(model)


def takes_ids(model: nn.Module | type[nn.Module]) -> bool:
    """Whether a class can be called with token ids."""
    return "input_ids" in _takes(model)


def takes_text(model: nn.Module | type[nn.Module]) -> bool:
    """Whether a class can be called with token ids and asks for nothing else in the first place.

    The class alone tells, so that the table of preflight, which builds no model, is made by the same question.
    """
    main: str = getattr(model, "main_input_name", "input_ids")
    return takes_ids(model) and main in _OF_TEXT


def inputs_of(model: nn.Module, ids: Int64[Tensor, "windows length"]) -> dict[str, Any]:
    """Return the arguments with which a stock model reads windows of text, without a cache.

    Args:
        ids: Two tokens or more in each window.
    """
    takes = _takes(model)
    # Some models have no cache for all of their blocks, and a window that is read once needs none.
    options = {"use_cache": False} if takes & {"use_cache", "kwargs"} else {}
    if not reads_in_halves(model):
        return {"input_ids": ids, **options}
    return {"input_ids": ids[:, : ids.shape[1] // 2], DECODER_IDS: predicted_ids(model, ids), **options}


def predicted_ids(model: nn.Module, ids: Int64[Tensor, "windows length"]) -> Int64[Tensor, "windows predicted"]:
    """Return the ids each of which the model predicts from those before it, but for the first; `ids` of most models.

    Of an encoder-decoder these are the token its decoder starts with, and the second half of every window.
    """
    if not reads_in_halves(model):
        return ids
    target, start = ids[:, ids.shape[1] // 2 :], _start(model)
    first = torch.full_like(target[:, :1], start)
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        # The class shifts one token away, so it is given one more; some classes put that one to the front.
        with suppress(AttributeError, ValueError, TypeError):  # where a configuration lacks what the class needs for it
            shifted: Tensor = shift(labels=torch.cat([target, first], dim=1))
            return shifted
    return torch.cat([first, target], dim=1)


def _start(model: nn.Module) -> int:
    config: PreTrainedConfig = model.config  # type: ignore[assignment]  # of every model of transformers
    for owner in (config, config.get_text_config(decoder=True)):
        for field in _START_FIELDS:
            value = getattr(owner, field, None)
            if isinstance(value, int):
                return value
    return 0


def takes_halves(model: nn.Module | type[nn.Module]) -> bool:
    """Whether a class can be called with what a decoder has heard so far, beside what an encoder reads."""
    return DECODER_IDS in _takes(model)


def _takes(model: nn.Module | type[nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(model.forward).parameters)
