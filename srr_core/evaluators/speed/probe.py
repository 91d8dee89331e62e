"""One model alone in a process: how long it takes to load, what it keeps in memory, how many tokens a second it gives.

A process of its own, because memory that another model has used or freed could not be told apart, and because a
second load in one process finds its code warm. `python -m srr_core.evaluators.speed.probe` reads one JSON object
from standard input and prints one.
"""

import gc
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from srr_core.evaluators.opened import OpenedModel
from srr_core.models.inputs import inputs_of
from srr_core.runtime.resident import release_freed, resident_memory_bytes


@dataclass(frozen=True)
class ProbeOptions:
    """What is measured."""

    batch_sizes: tuple[int, ...] = (1, 16)
    prompt_tokens: int = 128
    new_tokens: int = 32
    dtype: str | None = None
    """Of both models, by torch's name; each one's own by default."""


@dataclass(frozen=True)
class ProbeFacts:
    """What one process has seen."""

    load_seconds: float
    """From files that the system may have in its cache to a model that is ready."""
    resident_bytes: int
    """How much larger the process is for holding the model, after its first forward pass. On a GPU: of its memory."""
    tokens_per_second: dict[str, float]
    """`prefill@1`, `decode@16`; of an encoder `encode@1`, ... The numbers are batch sizes."""


def probe(directory: Path, device: torch.device, options: ProbeOptions) -> ProbeFacts:
    """Load a model and measure it. Call it first in a process that has done nothing else with models."""
    opened = OpenedModel(directory)
    is_causal = opened.architecture().is_causal_lm
    before = _held(device)
    began = time.perf_counter()
    model = opened.load(device, dtype=None if options.dtype is None else getattr(torch, options.dtype))
    _wait(device)
    load_seconds = time.perf_counter() - began
    with torch.inference_mode():
        _forward(model, _prompt(model, 1, 2), is_causal=is_causal)
        gc.collect()
        release_freed()
        resident = _held(device) - before
        rates: dict[str, float] = {}
        for batch in options.batch_sizes:
            rates |= _rates(model, batch, options, device, is_causal=is_causal)
    return ProbeFacts(load_seconds, resident, rates)


def main() -> None:
    """Answer one request on standard input."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    request = json.loads(sys.stdin.read())
    options = ProbeOptions(**{**request["options"], "batch_sizes": tuple(request["options"]["batch_sizes"])})
    if request["threads"]:
        torch.set_num_threads(request["threads"])
    facts = probe(Path(request["directory"]), torch.device(request["device"]), options)
    sys.stdout.write(json.dumps(asdict(facts)) + "\n")


def _rates(
    model: PreTrainedModel, batch: int, options: ProbeOptions, device: torch.device, *, is_causal: bool
) -> dict[str, float]:
    prompt = _prompt(model, batch, options.prompt_tokens)
    _forward(model, prompt, is_causal=is_causal)  # the first one compiles, allocates and chooses kernels
    seconds, output = _timed(lambda: _forward(model, prompt, is_causal=is_causal), device)
    if not is_causal:
        return {f"encode@{batch}": prompt.numel() / seconds}
    rates = {f"prefill@{batch}": prompt.numel() / seconds}
    cache, token = output.past_key_values, output.logits[:, -1:].argmax(-1)
    cache, token = _decode(model, token, cache, steps=1)
    seconds, _ = _timed(lambda: _decode(model, token, cache, steps=options.new_tokens), device)
    return {**rates, f"decode@{batch}": batch * options.new_tokens / seconds}


def _decode(model: PreTrainedModel, token: torch.Tensor, cache: Any, *, steps: int) -> tuple[Any, torch.Tensor]:
    for _ in range(steps):
        output = model(input_ids=token, past_key_values=cache, use_cache=True)
        cache, token = output.past_key_values, output.logits[:, -1:].argmax(-1)
    return cache, token


def _forward(model: PreTrainedModel, prompt: torch.Tensor, *, is_causal: bool) -> Any:
    if not is_causal:
        return model(**inputs_of(model, prompt))
    try:
        return model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    except TypeError:  # an older class, which computes the logits of every position
        return model(input_ids=prompt, use_cache=True)


def _prompt(model: PreTrainedModel, batch: int, length: int) -> torch.Tensor:
    # Which tokens they are changes nothing; that they differ matters to a mixture of experts.
    generator = torch.Generator().manual_seed(0)
    size = int(model.config.get_text_config().vocab_size)
    return torch.randint(0, size, (batch, length), generator=generator).to(model.device)


def _timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    _wait(device)
    began = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - began, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _held(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return resident_memory_bytes()


if __name__ == "__main__":
    main()
