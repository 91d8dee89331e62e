"""The loss of next tokens without the logits of a whole batch: a few thousand at a time, and of trained tokens only.

The output head of a language model is the largest matrix product of a small one, and its result, tokens times
vocabulary in float32, the largest tensor. Here the head hands on what it is given while the model runs, so the model's
own forward stays in use, with everything that is wrapped around it; the product is made afterwards, piece by piece, and
made again backward. Positions that are not learned never meet the head.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from typing_extensions import override

from srr_core.tuners.batches import IGNORED, Batch, token_batch
from srr_core.tuners.packing import Window

FLOAT32_TOLERANCE = 1e-4
BFLOAT16_TOLERANCE = 2e-2
"""Of relative differences of a loss that is computed in two ways: some hundred roundings of either dtype."""


_CAP = "final_logit_softcapping"
"""Gemma's name in a configuration for what bends logits behind the head."""


class DeferredHead(nn.Linear):
    """An output head that hands its input on while it is deferred."""

    is_deferred: bool

    @override
    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """Return logits, or the input itself."""
        return input if self.is_deferred else super().forward(input)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Hand the input on inside this scope."""
        self.is_deferred = True
        try:
            yield
        finally:
            self.is_deferred = False


class TokenLoss:
    """The sum of -log p over the trained tokens of a batch.

    Args:
        base: The language model, without what is wrapped around it. Its head becomes a `DeferredHead`.
        chunk_tokens: Tokens whose logits are in memory at once.
    """

    def __init__(self, base: PreTrainedModel, *, chunk_tokens: int) -> None:
        self._chunk_tokens = chunk_tokens
        self._head: DeferredHead | None = None
        head = base.get_output_embeddings()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        # A cap would be put on what the head hands on, which it bends too little to be noticed where logits are small.
        is_capped = getattr(base.config.get_text_config(), _CAP, None) is not None
        if type(head) is nn.Linear and not is_capped:
            head.__class__ = DeferredHead
            head.is_deferred = False  # type: ignore[assignment]  # it is a DeferredHead by now
            self._head = head  # type: ignore[assignment]  # the same

    @property
    def is_chunked(self) -> bool:
        """Whether logits are computed piece by piece."""
        return self._head is not None

    def __call__(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Return the sum in float32, with a gradient where there is one.

        Args:
            model: The base or whatever is wrapped around it.
        """
        if self._head is None:
            logits = model(**batch.inputs, use_cache=False).logits
            states, targets = _trained(logits, batch.targets)
            return self._sum(states, targets, head=None)
        with self._head.deferred():
            hidden = model(**batch.inputs, use_cache=False).logits
        states, targets = _trained(hidden, batch.targets)
        return self._sum(states, targets, head=self._head)

    @torch.no_grad()
    def check(self, model: nn.Module, batch: Batch, *, tolerance: float) -> bool:
        """Compare the chunked loss with that of the model's own logits, and go without chunks where they differ.

        A model may do more with its logits than the head does, such as capping them.

        Returns:
            Whether logits are computed piece by piece from now on.
        """
        if self._head is None:
            return False
        chunked, head = self(model, batch), self._head
        self._head = None
        whole = self(model, batch)
        if bool((chunked - whole).abs() <= tolerance * whole.abs()):
            self._head = head
        return self.is_chunked

    def _sum(self, states: Tensor, targets: Tensor, *, head: nn.Linear | None) -> Tensor:
        total = states.new_zeros((), dtype=torch.float32)
        size = self._chunk_tokens
        pieces = zip(torch.split(states, size), torch.split(targets, size), strict=True)
        for piece, wanted in pieces:
            if head is not None and torch.is_grad_enabled():
                part: Any = checkpoint(_piece, piece, wanted, head, use_reentrant=False)
            else:
                part = _piece(piece, wanted, head)
            total = total + part
        return total


@torch.no_grad()
def keeps_apart(
    loss: TokenLoss,
    model: nn.Module,
    windows: Sequence[Window],
    *,
    padding: int,
    tolerance: float,
    device: torch.device,
) -> bool:
    """Whether the examples of packed windows have the loss they have alone, so that none sees another.

    Models whose layers carry a state from token to token, or that make their own positions, do not keep them apart.
    """
    packed = loss(model, token_batch(windows, padding=padding, is_packed=True).to(device))
    single = torch.zeros_like(packed)
    for window in windows:
        for example in window:
            single += loss(model, token_batch([(example,)], padding=padding, is_packed=False).to(device))
    return bool((packed - single).abs() <= tolerance * single.abs())


def _trained(states: Float[Tensor, "windows length size"], targets: Int[Tensor, "windows length"]) -> tuple[Any, Any]:
    """Return what predicts a trained token, and that token."""
    wanted = targets[:, 1:]
    chosen = wanted != IGNORED
    return states[:, :-1][chosen], wanted[chosen]


def _piece(states: Tensor, targets: Tensor, head: nn.Linear | None) -> Tensor:
    logits = states if head is None else head(states)
    return functional.cross_entropy(logits.float(), targets, reduction="sum")
