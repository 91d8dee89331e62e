"""One block learned: its rounding and its L·R, so that its output is that of the source's block.

The block is given what it will get, the outputs of the blocks compressed before it, and is asked for what the source's
block made of its own inputs; so it also makes up for what was lost before it. Only the weights of its layers change;
norms, biases and attention run as the stock module has them. What was learned is kept only where the loss over all
windows, in float32, is lower than that of the start.

Memory: the block in float32 with its gradients, what one micro-batch leaves for the backward pass, and about six times
the largest weight on top of three times the block.

Source: Cheng et al., SignRound, arXiv:2309.05516 (the sign steps); Li et al., BRECQ, arXiv:2102.05426 (the block as
the unit). Deviation: L·R learns beside the rounding.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from srr_core.errors import NumericalError
from srr_core.learning.factors import LearnedFactors
from srr_core.learning.rounding import LearnedRounding, learned_rounding
from srr_core.learning.schedule import Schedule
from srr_core.models.stream import Hidden
from srr_core.models.weights import BlockWeights
from srr_core.quantizers.learned import LearnableTensor
from srr_core.recipe import LearnedSpec
from srr_core.report import LearningReport
from srr_core.types import Decomposition

Forward = Callable[[int], Hidden]
"""Runs the block on one micro-batch of the compressed prefix."""


@dataclass(frozen=True)
class Lesson:
    """What a block learns from: how to run it, and what it should give, micro-batch by micro-batch."""

    forward: Forward
    targets: Sequence[Hidden]
    num_windows: int
    """In one micro-batch; the last may have fewer."""


@dataclass(frozen=True)
class Learned:
    """A block after learning: its layers, and whether they are better than the start."""

    layers: Mapping[str, Decomposition]
    report: LearningReport


def learn_block(
    weights: BlockWeights,
    starts: Mapping[str, Decomposition],
    lesson: Lesson,
    spec: LearnedSpec,
    *,
    device: torch.device,
    seed: int,
    after_step: Callable[[], None],
) -> Learned:
    """Return the layers of a block with their rounding and L·R learned, or as they were where that was better.

    The block is left with weights of no meaning.

    Args:
        starts: By layer; their codes are of the kind `LearnableTensor`. Layers `weights` does not know stay.
        seed: Of the order of windows. Same seed, device and number of threads give the same bits.
        after_step: Called after every step; may raise to stop.
    Raises:
        NumericalError: the block's output is not finite at the start.
    """
    layers = {name: _Layer.of(start) for name, start in starts.items() if name in weights}
    before = _losses(weights, layers, lesson)
    if not bool(torch.isfinite(before).all()):
        raise NumericalError("the output of the compressed block is not finite, so nothing can be learned from it")
    steps = _learn(weights, layers, lesson, before, spec, device=device, seed=seed, after_step=after_step)
    after = _losses(weights, layers, lesson)
    is_kept = bool(after.sum() < before.sum())
    report = LearningReport(start_loss=float(before.mean()), loss=float(after.mean()), steps=steps, is_kept=is_kept)
    learned = {name: layer.finished() for name, layer in layers.items()} if is_kept else {}
    return Learned({name: learned.get(name) or _plain(start) for name, start in starts.items()}, report)


class _Layer:
    """One layer while it learns."""

    def __init__(self, start: Decomposition, rounding: LearnedRounding, factors: LearnedFactors | None) -> None:
        self._start = start
        self._rounding = rounding
        self._factors = factors

    @classmethod
    def of(cls, start: Decomposition) -> "_Layer":
        assert isinstance(start.quantized, LearnableTensor)  # noqa: S101  # the quantizer of the specification made it
        own = start.quantized.spec  # its grid may differ from those of the block's other layers
        assert isinstance(own, LearnedSpec)  # noqa: S101  # the same
        has_rank = start.left is not None and start.right is not None and start.left.shape[1] > 0
        factors = LearnedFactors(start.left, start.right) if has_rank else None  # type: ignore[arg-type]  # both there
        return cls(start, learned_rounding(start.quantized, own), factors)

    def values(self, *, as_stored: bool = False) -> Float[Tensor, "out in"]:
        values = self._rounding.values()
        if self._factors is None:
            return values
        if not as_stored:
            return values.add_(self._factors.values())
        left, right = self._factors.stored()
        return values.addmm_(left.to(values), right.to(values))

    def step(self, gradient: Float[Tensor, "out in"], share: float, spec: LearnedSpec) -> None:
        if self._factors is not None:
            self._factors.step(gradient, spec.factor_learning_rate * share)
        self._rounding.step(gradient, share / spec.iterations)

    def finished(self) -> Decomposition:
        left, right = (self._start.left, self._start.right) if self._factors is None else self._factors.stored()
        overlap = self._start.preserved_overlap if self._factors is None else None  # L has moved since it was measured
        quantized = self._rounding.tensor()
        return replace(self._start, quantized=quantized, left=left, right=right, preserved_overlap=overlap)


def _plain(start: Decomposition) -> Decomposition:
    quantized = start.quantized
    return replace(start, quantized=quantized.plain()) if isinstance(quantized, LearnableTensor) else start


def _learn(
    weights: BlockWeights,
    layers: Mapping[str, _Layer],
    lesson: Lesson,
    before: Float[Tensor, " batches"],
    spec: LearnedSpec,
    *,
    device: torch.device,
    seed: int,
    after_step: Callable[[], None],
) -> int:
    """Learn in place; return the number of steps taken."""
    order = _order(len(lesson.targets), seed)
    per_step = max(1, min(spec.batch_size // lesson.num_windows, len(lesson.targets)))
    is_narrow = _is_narrow(spec, device)
    arithmetic = torch.autocast(device.type, dtype=torch.bfloat16) if is_narrow else contextlib.nullcontext()
    schedule = Schedule(spec.iterations, spec.patience)
    while schedule.share > 0:
        weights.require_gradients(layers, wanted=True)
        for name, layer in layers.items():
            weights.write(name, layer.values())
        total = torch.zeros((), device=device)
        chosen = [next(order) for _ in range(per_step)]
        whole = before[chosen].sum().clamp_min(torch.finfo(torch.float32).tiny)
        for batch in chosen:
            with torch.enable_grad(), arithmetic:
                output = lesson.forward(batch)
            # In units of the start's loss, so that no step depends on how large a model's activations are.
            loss = (output.to(torch.float32) - lesson.targets[batch]).square().mean() / whole.to(device)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += loss.detach()
        if not bool(torch.isfinite(total)):
            break  # what there is will lose against the start
        for name, layer in layers.items():
            gradient = weights.gradient(name)
            if gradient is not None:
                layer.step(gradient, schedule.share, spec)
        after_step()
        schedule.note(float(total))
    weights.require_gradients(layers, wanted=False)
    return schedule.steps


@torch.no_grad()
def _losses(weights: BlockWeights, layers: Mapping[str, _Layer], lesson: Lesson) -> Float[Tensor, " batches"]:
    """Return the mean squared error of every micro-batch with the weights as they would be stored, on the CPU."""
    for name, layer in layers.items():
        weights.write(name, layer.values(as_stored=True))
    losses = [(lesson.forward(batch) - target).square().mean() for batch, target in enumerate(lesson.targets)]
    return torch.stack(losses).cpu()


def _order(count: int, seed: int) -> Iterator[int]:
    """Yield all micro-batches in random order, again and again."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).tolist()


def _is_narrow(spec: LearnedSpec, device: torch.device) -> bool:
    """Whether the block runs in bfloat16 while it learns."""
    if spec.arithmetic != "auto":
        return spec.arithmetic == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
