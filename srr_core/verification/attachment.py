"""Whether transformers gives every L·R of an adapter its layer, found out by attaching it without a weight."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from srr_core.errors import CheckpointError
from srr_core.models.architecture import silent_loading


def check_attached(model: PreTrainedModel, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Attach an adapter whose tensors are on the meta device to a model, exactly as `from_pretrained` does.

    PEFT (0.21) drops factors of some shared experts without an error, attaches some to a vision tower too and
    forbids modules of some models; this asks it instead of listing those. Takes about a second for the largest
    models, and no memory.

    Args:
        model: Dense, on the meta device. The adapter stays attached to it.
        config: What adapter_config.json holds.
        shapes: Of the adapter's tensors, by their names in its file.
    Raises:
        CheckpointError: PEFT refuses the adapter, or a factor has no place, or a place no factor; the message names it.
    """
    factors = {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items()}
    try:
        with torch.device("meta"), silent_loading(), warnings.catch_warnings():
            # Of Conv1D modules, which are packed by the time they are loaded, and of patterns for experts.
            warnings.simplefilter("ignore")
            info = model.load_adapter(
                peft_config=LoraConfig(**config),  # type: ignore[arg-type]  # transformers annotates a dict and wants this
                adapter_state_dict=factors,
                ignore_mismatched_sizes=True,
            )
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"peft does not attach the adapter: {reason}") from error
    problems = [f"tensor {name!r} belongs to no layer of the model" for name in sorted(info.unexpected_keys)]
    problems += [f"no tensor of the adapter fills {name!r} of the model" for name in sorted(info.missing_keys)]
    problems += [
        f"tensor {name!r} has shape {list(found)}, its layer needs {list(wanted)}"
        for name, found, wanted in sorted(info.mismatched_keys)
    ]
    if problems:
        raise CheckpointError(problems[0].replace(".default.", "."))
