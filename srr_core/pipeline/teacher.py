"""A source that teaches its packed model: the last hidden states it has, and how far a pupil is from them.

The source is not loaded beside the pupil. Its states come out of one walk over its blocks, are held in 16 bits on the
CPU, and pass its head a few windows at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from peft import PeftModel
from torch import Tensor, nn

from srr_core.calibration.dataset import TokenWindows
from srr_core.errors import UnsupportedModelError
from srr_core.evaluators.tokens import LOGIT_BYTES
from srr_core.formats.artifact_files import ADAPTER_DTYPE
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.inputs import inputs_of
from srr_core.models.stream import Stream
from srr_core.pipeline.plan import RunPlan
from srr_core.pipeline.run_monitor import RunMonitor
from srr_core.recipe.stages import Stage

LORA = ".lora_"
"""In the names of L and R of an adapter."""


class Teacher:
    """The source's last hidden states, and the losses of a pupil against them.

    The pupil is compared at every position that predicts a token, as evaluators do.
    """

    def __init__(self, plan: RunPlan, windows: TokenWindows, monitor: RunMonitor) -> None:
        self._windows = windows
        self._device = plan.device
        self._last_block = plan.layers.blocks[-1].path
        self._source = BlockwiseModel(plan.architecture, plan.weights, plan.layers, plan.device)
        stream = self._source.start(list(windows.batches(plan.recipe.calibration.batch_size)))
        with torch.no_grad():
            for block in plan.layers.blocks:
                with self._source.loaded_block(block.index, stream) as module:
                    self._source.run_block(stream, module)
                monitor.advance(Stage.REPAIR, block=block.index)
                monitor.check()
            self.predicts = plan.architecture.predicts_tokens and self._finished(stream)
        states = (window.to("cpu", torch.bfloat16) for batch in stream.hidden for window in batch)
        self._states = torch.stack(list(states))
        self._per_pass = self._windows_per_pass(windows.ids.shape[1])

    def _finished(self, stream: Stream) -> bool:
        try:
            with self._source.outer_weights():
                self._source.finish(stream)
        except UnsupportedModelError:
            return False
        return True

    def _windows_per_pass(self, length: int) -> int:
        width = self._source.vocabulary_size if self.predicts else self._states.shape[-1]
        return max(1, LOGIT_BYTES // (4 * width * length))

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Hold the teacher's head."""
        with ExitStack() as held:
            if self.predicts:
                held.enter_context(self._source.outer_weights())
            yield

    def learn(self, model: nn.Module, chosen: Sequence[int]) -> float:
        """Leave the gradients of the mean loss of some windows in a model; return the loss."""
        total = 0.0
        for part in torch.split(torch.tensor(chosen), self._per_pass):
            with torch.enable_grad():
                loss = self._loss(model, part) * (len(part) / len(chosen))
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += float(loss.detach())
        return total

    @torch.no_grad()
    def judge(self, model: nn.Module, chosen: Sequence[int], parameters: Mapping[str, nn.Parameter]) -> float:
        """Return the mean loss over some windows with the factors as they would be stored."""
        total = 0.0
        with _rounded(parameters):
            for part in torch.split(torch.tensor(chosen), self._per_pass):
                total += float(self._loss(model, part)) * len(part)
        return total / len(chosen)

    def _loss(self, model: nn.Module, chosen: Int64[Tensor, " windows"]) -> Tensor:
        ids, states = self._windows.ids[chosen].to(self._device), self._states[chosen]
        if not self.predicts:
            found, wanted = self._last_hidden(model, ids), states.to(self._device, torch.float32)
            return (found - wanted).square().mean() / wanted.square().mean()
        logits = model(**inputs_of(base_of(model), ids)).logits[:, :-1].flatten(0, 1)
        with torch.no_grad():
            wanted = self._source.head(states[:, :-1].flatten(0, 1).to(self._device, torch.float32)).log_softmax(-1)
        log_probabilities = logits.to(torch.float32).log_softmax(-1)
        divergence = nn.functional.kl_div(log_probabilities, wanted, reduction="sum", log_target=True)
        return divergence / len(logits)

    def _last_hidden(self, model: nn.Module, ids: Tensor) -> Float[Tensor, "windows length hidden"]:
        seen: list[Tensor] = []

        def note(_module: nn.Module, _args: Any, output: Any) -> None:
            seen.append(output if isinstance(output, Tensor) else output[0])

        handle = base_of(model).get_submodule(self._last_block).register_forward_hook(note)
        try:
            model(**inputs_of(base_of(model), ids))
        finally:
            handle.remove()
        return seen[-1].to(torch.float32)


def base_of(model: nn.Module) -> Any:
    """Return the model below an adapter, or the model itself where it has none."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextmanager
def _rounded(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Round L and R to the dtype they are stored in, inside this scope."""
    exact = {name: parameter.data for name, parameter in parameters.items() if LORA in name}
    for name, data in exact.items():
        parameters[name].data = data.to(ADAPTER_DTYPE).to(torch.float32)
    try:
        yield
    finally:
        for name, data in exact.items():
            parameters[name].data = data
