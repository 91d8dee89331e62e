"""How far a training has moved a language model on a text that has nothing to do with its task."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from srr_core.calibration.dataset import TokenWindows
from srr_core.tuners.objectives import Check
from srr_core.tuners.report import NeutralReport


@torch.no_grad()
def drift(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    start: Mapping[str, Tensor],
    windows: TokenWindows,
    *,
    batch_size: int,
    check: Check,
) -> NeutralReport:
    """Return the divergence of a trained model from its start, window by window, the base in memory once.

    Args:
        model: In evaluation mode, trained.
        parameters: What was trained; it has the trained values again at the end.
        start: The values it began with.
    """
    device = next(iter(parameters.values())).device
    trained = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    divergence = before = after = 0.0
    count = 0
    for batch in windows.batches(batch_size):
        check()
        ids = batch.to(device)
        _put(parameters, start)
        old = _log_probabilities(model, ids)
        _put(parameters, trained)
        new = _log_probabilities(model, ids)
        targets = ids[:, 1:, None]
        divergence += float((old.exp() * (old - new)).sum())
        before -= float(old.gather(-1, targets).sum())
        after -= float(new.gather(-1, targets).sum())
        count += targets.numel()
    return NeutralReport(
        text=windows.describe(),
        divergence=divergence / count,
        loss_before=before / count,
        loss_after=after / count,
    )


def _log_probabilities(model: nn.Module, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return functional.log_softmax(logits[:, :-1].float(), dim=-1)


def _put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
