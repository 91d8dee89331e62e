"""How much the model's prediction depends on every output of every layer: the diagonal of the Fisher information.

If an output o of a layer is off by e, the prediction moves by about half of E[g²]·E[e²] nats per token, where g is the
gradient of the log-likelihood of a label drawn from the model itself, and E the mean over tokens. One backward pass
over a little text gives all of them. It goes block by block, from the last to the first: the inputs of every block are
kept from the way forth, the gradients of its outputs from the block behind it.

Where a model predicts nothing, its last hidden states take the place of the prediction: g is then the gradient of
their product with random signs of unit variance, and E[g²]·E[e²] the squared error they get.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from srr_core.errors import UnsupportedModelError
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import Block, Layer
from srr_core.models.stream import Hidden
from srr_core.models.weights import BlockWeights

Sensitivities = Mapping[str, Float64[Tensor, " out"]]
"""Mean over tokens of the squared gradient of every output, by layer; tokens that never reach a layer count as zero."""


def output_sensitivities(
    model: BlockwiseModel,
    root: nn.Module,
    blocks: Sequence[Block],
    batches: Sequence[Int64[Tensor, "_ length"]],
    *,
    source: Callable[[Layer], Tensor],
    has_head: bool,
    seed: int,
    after_block: Callable[[], None],
) -> Sensitivities:
    """Return the sensitivities of all layers.

    Memory: one block in float32 with the activations of one batch, and the inputs of every block over all batches.

    Args:
        root: The model whose blocks are loaded.
        source: Returns the source weight of a layer, [out, in].
        has_head: Whether the model returns logits of tokens.
        seed: Of the labels.
        after_block: Called after every block, twice each; may raise to stop.
    """
    stream = model.start(batches)
    inputs: list[list[Hidden]] = []
    for block in blocks:
        with model.loaded_block(block.index, stream) as module:
            inputs.append(list(stream.hidden))
            model.run_block(stream, module)
        after_block()
    if len(stream.stretches) > 1:
        raise UnsupportedModelError(
            "the model works on the hidden states between its blocks, so what a layer does to the output is not "
            "measured; give one quantizer for all layers and no budget"
        )
    generator = torch.Generator().manual_seed(seed)
    if has_head:
        gradients = list(model.head_gradients(stream, lambda _, logits: _drawn_loss(logits, generator)))
    else:
        gradients = [_signs(hidden, generator) for hidden in stream.hidden]
    sums: dict[str, Tensor] = {}
    for block in reversed(blocks):
        stream.next_block = block.index
        with model.loaded_block(block.index) as module:
            weights = BlockWeights(root, block, source)
            with _tapped(root, block, weights, sums):
                for number, hidden in enumerate(inputs.pop()):
                    stream.hidden[number] = hidden.detach().clone().requires_grad_(True)
                    with torch.enable_grad():
                        output = model.forward_block(stream, module, number)
                    (gradients[number],) = torch.autograd.grad(output, stream.hidden[number], gradients[number])
        after_block()
    tokens = sum(batch.numel() for batch in batches)
    return {
        layer.name: sums.get(layer.name, torch.zeros(layer.shape[0], dtype=torch.float64)).cpu() / tokens
        for block in blocks
        for layer in block.layers
    }


def _drawn_loss(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return the summed negative log-likelihood of labels drawn from the logits."""
    rows = logits.flatten(0, -2).to(torch.float32)
    labels = torch.multinomial(rows.detach().softmax(-1).cpu(), 1, generator=generator).flatten()
    return nn.functional.cross_entropy(rows, labels.to(rows.device), reduction="sum")


def _signs(hidden: Hidden, generator: torch.Generator) -> Hidden:
    return (torch.randint(0, 2, hidden.shape, generator=generator) * 2.0 - 1.0).to(hidden)


@contextmanager
def _tapped(root: nn.Module, block: Block, weights: BlockWeights, sums: dict[str, Tensor]) -> Iterator[None]:
    """Add the squared gradients of the outputs of a block's layers to `sums` while it runs and is differentiated."""

    def note(name: str, gradient: Tensor) -> None:
        squares = gradient.detach().flatten(0, -2).to(torch.float32).square().sum(0, dtype=torch.float64)
        sums[name] = sums[name] + squares if name in sums else squares

    experts: dict[int, list[tuple[str, slice]]] = {}
    with ExitStack() as stack:
        for layer in block.layers:
            if layer.expert is None:
                hook = _hook(layer.name, note)
                handle = root.get_submodule(layer.module).register_forward_hook(hook)
                stack.callback(handle.remove)
            elif layer.name in weights and (rows := weights.expert_rows(layer.name)) is not None:
                experts.setdefault(rows[0], []).append((layer.name, rows[1]))
        if experts:
            stack.enter_context(_ExpertTap(experts, note))
        yield


Note = Callable[[str, Tensor], None]


def _hook(name: str, note: Note) -> Callable[[nn.Module, Any, Tensor], None]:
    def seen(_module: nn.Module, _args: Any, output: Tensor) -> None:
        output.register_hook(lambda gradient: note(name, gradient))  # type: ignore[no-untyped-call]  # torch's own

    return seen


class _ExpertTap(TorchFunctionMode):
    """Watches products with slices of a fused parameter; the address of the weight tells which expert it is."""

    def __init__(self, experts: Mapping[int, Sequence[tuple[str, slice]]], note: Note) -> None:
        super().__init__()
        self._experts = experts
        self._note = note

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute a product, and note the gradient of its outputs when it comes."""
        result = func(*args, **(kwargs or {}))
        if func is nn.functional.linear and isinstance(args[1], Tensor):
            members = self._experts.get(args[1].data_ptr(), ())
            if members and result.requires_grad and result.numel():
                result.register_hook(lambda gradient: self._split(members, gradient))
        return result

    def _split(self, members: Sequence[tuple[str, slice]], gradient: Tensor) -> None:
        for name, rows in members:
            self._note(name, gradient[..., rows])
