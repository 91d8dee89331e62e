"""What a fine-tuning would take, from shapes, rows and settings alone: no weight is read and no torch is needed.

A plain model with its assumptions beside each number, not a measurement: a pass keeps what the backward pass reads of
every layer, a frozen weight costs one product forward and one backward, and products run at a share of the machine's
rate. Where the tokenizer was not asked, tokens are counted by characters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srr_core.recipe import cost
from srr_core.recipe.tuning import RecipeStart, TuningSpec
from srr_core.recipe.tuning_tasks import ClassificationTask, GLUETask, RegressionTask

TRAINED_BYTES = 16
"""Of one trained value: itself, its gradient and AdamW's two moments, all in float32."""
LOGIT_COPIES = 3
"""Float32 copies of a chunk of logits: themselves, their softmax, their gradient."""
DENSE_COPIES = 2
"""Of the largest layer while it multiplies: unpacked, and widened."""
KEPT_BYTES = {"float32": 9, "bfloat16": 8}
"""For the backward pass, of one token and one input feature of a layer with an adapter, by precision: the input, and
what its output becomes. Measured on blocks of a Llama with PEFT, which widens the inputs of factors to float32."""
PACKED_KEPT_BYTES = {"float32": 9, "bfloat16": 5}
"""The same of packed layers, whose inputs are kept as they are: 4.6 measured in bf16."""
_VALUE_BYTES = {"float32": 4, "bfloat16": 2}
_FORWARD, _FROZEN_BACKWARD, _TRAINED = 2, 2, 6
"""Operations per value and token: of a product; of the gradient of its input; of a factor in both directions."""

Shape = tuple[int, int]


@dataclass(frozen=True)
class TunedModel:
    """The sizes of a model that memory and time follow from."""

    shapes: tuple[Shape, ...]
    """(out, in) of every layer with an adapter."""
    kept_values: int
    """Outside of them: embeddings, norms, head."""
    hidden_size: int
    vocabulary: int
    blocks: int
    packed_bytes: int | None = None
    """Of an artifact's weight files; None where the recipe says what the layers will be."""
    factor_values: int | None = None
    """In an artifact's own L·R."""

    @property
    def layer_values(self) -> int:
        """Weights in the layers."""
        return sum(rows * columns for rows, columns in self.shapes)


@dataclass(frozen=True)
class Workload:
    """How much is read, and how often."""

    steps_per_epoch: int
    steps: int
    """Of one training, unless it ends early."""
    tokens: int
    """Read in one training, without evaluations."""
    validation_tokens: int
    """Of one evaluation."""
    pass_tokens: int
    """At most, of one pass forward and back."""
    is_counted: bool
    """Whether the tokenizer has counted the tokens."""


def workload(
    spec: TuningSpec,
    *,
    rows: int,
    characters: int,
    validation_characters: int | None = None,
    longest: int | None = None,
) -> Workload:
    """Return what rows come to, where no tokenizer has seen them.

    Args:
        characters: Of all rows.
        validation_characters: Of rows to judge by that come apart; by default a share of the others is held out.
        longest: Characters of the longest example, as far as that is known.
    """
    share = 0.0 if validation_characters is not None else spec.data.validation_share
    tokens = max(round(characters * (1 - share)) // cost.BYTES_PER_TOKEN, 1)
    judged = validation_characters if validation_characters is not None else round(characters * share)
    learned = max(rows - math.ceil(rows * share), 1)
    window = spec.data.window
    if is_packed(spec) or spec.data.too_long == "split":
        windows, pass_tokens = max(math.ceil(tokens / window), 1), window
    else:
        mean = math.ceil(tokens / learned)
        windows, pass_tokens = learned, min(window, max(math.ceil((longest or 0) / cost.BYTES_PER_TOKEN), mean))
    per_epoch = math.ceil(windows / (spec.batch.size * spec.batch.accumulation))
    return _workload(
        spec,
        per_epoch,
        tokens=tokens,
        validation_tokens=max(judged // cost.BYTES_PER_TOKEN, 1),
        pass_tokens=pass_tokens * min(spec.batch.size, windows),
        is_counted=False,
    )


def counted_workload(
    spec: TuningSpec, *, steps_per_epoch: int, windows: int, tokens: int, validation_tokens: int, longest: int
) -> Workload:
    """Return what rows come to, as the tokenizer has counted them."""
    window = spec.data.window if is_packed(spec) else longest
    pass_tokens = window * min(spec.batch.size, windows)
    return _workload(
        spec,
        steps_per_epoch,
        tokens=tokens,
        validation_tokens=validation_tokens,
        pass_tokens=pass_tokens,
        is_counted=True,
    )


def _workload(
    spec: TuningSpec, per_epoch: int, *, tokens: int, validation_tokens: int, pass_tokens: int, is_counted: bool
) -> Workload:
    all_steps = per_epoch * spec.schedule.epochs
    limit = spec.schedule.max_steps
    steps = all_steps if limit is None else min(all_steps, limit)
    read = round(tokens * spec.schedule.epochs * steps / all_steps)
    return Workload(per_epoch, steps, read, validation_tokens, pass_tokens, is_counted)


def is_packed(spec: TuningSpec) -> bool:
    """Whether several examples share a window."""
    return spec.batch.packing and not isinstance(spec.task, ClassificationTask | RegressionTask | GLUETask)


def evaluations(spec: TuningSpec, work: Workload) -> int:
    """Return how often one training is evaluated: the start, the end, and between."""
    every = spec.checkpoints.evaluate_every
    interval = work.steps_per_epoch if every == "epoch" else every
    return 1 + math.ceil(work.steps / interval)


def trainings(spec: TuningSpec) -> int:
    """Return how many trainings a grid has."""
    return max(len(spec.grid.learning_rates), 1) * max(len(spec.grid.seeds), 1)


def trained_parameters(spec: TuningSpec, model: TunedModel) -> int:
    """Return the values of the factors; a classifier's head is small beside them and left out."""
    if model.factor_values:
        return model.factor_values
    start = spec.start
    rank = start.recipe.rank if isinstance(start, RecipeStart) and start.recipe.rank else spec.rank
    return sum(min(rank, *shape) * sum(shape) for shape in model.shapes)


def fixed_bytes(spec: TuningSpec, model: TunedModel) -> int:
    """Return the memory that is taken whatever the rows are: base, factors, optimizer, and the process itself."""
    return cost.BASE_MEMORY_BYTES + base_bytes(spec, model) + TRAINED_BYTES * trained_parameters(spec, model)


def base_bytes(spec: TuningSpec, model: TunedModel) -> int:
    """Return the memory of the frozen model: packed layers, and the rest as wide as activations."""
    width = _VALUE_BYTES[spec.precision]
    if model.packed_bytes is not None:
        return model.packed_bytes
    if isinstance(spec.start, RecipeStart):
        quantizer = spec.start.recipe.quantizer
        return round(quantizer.bits_per_weight * model.layer_values / 8) + width * model.kept_values
    return width * (model.layer_values + model.kept_values)


def memory_bytes(spec: TuningSpec, model: TunedModel, work: Workload) -> int:
    """Return the peak while training, in the memory where layers are computed; a compression before it is apart."""
    width = _VALUE_BYTES[spec.precision]
    has_packed = model.packed_bytes is not None or isinstance(spec.start, RecipeStart)
    kept = (PACKED_KEPT_BYTES if has_packed else KEPT_BYTES)[spec.precision]
    inner = kept * work.pass_tokens * sum(columns for _, columns in model.shapes)
    if spec.batch.gradient_checkpointing:
        blocks = max(model.blocks, 1)
        inner = inner // blocks + width * work.pass_tokens * model.hidden_size * blocks
    learns_tokens = not isinstance(spec.task, ClassificationTask | RegressionTask | GLUETask)
    chunk = min(spec.batch.chunk_tokens, work.pass_tokens)
    logits = LOGIT_COPIES * 4 * chunk * model.vocabulary if learns_tokens else 0
    unpacked = DENSE_COPIES * 4 * max((a * b for a, b in model.shapes), default=0) if has_packed else 0
    return fixed_bytes(spec, model) + inner + logits + unpacked


def operations(spec: TuningSpec, model: TunedModel, work: Workload) -> float:
    """Return the floating-point operations of all trainings of a grid, evaluations counted, a compression not."""
    weights = model.layer_values + model.vocabulary * model.hidden_size
    factors = trained_parameters(spec, model)
    again = _FORWARD * weights if spec.batch.gradient_checkpointing else 0
    step = (_FORWARD + _FROZEN_BACKWARD) * weights + again + _TRAINED * factors
    judged = evaluations(spec, work) * work.validation_tokens * _FORWARD * (weights + factors)
    return float(trainings(spec) * (work.tokens * step + judged))


def sizes_of(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return hidden size, vocabulary and number of blocks as a configuration says them; 0 where it does not."""
    text = config.get("text_config")
    places = (text, config) if isinstance(text, Mapping) else (config,)

    def first(*names: str) -> int:
        found = (place.get(name) for place in places for name in names)
        return next((value for value in found if isinstance(value, int) and value > 0), 0)

    return (
        first("hidden_size", "n_embd", "d_model", "dim"),
        first("vocab_size"),
        first("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    )


def usual_shapes(config: Mapping[str, Any]) -> tuple[Shape, ...]:
    """Return the layers a Transformer of these sizes usually has, where those of an artifact are packed.

    Four squares of attention and a gated perceptron, four times as wide unless the configuration says otherwise. A
    heuristic: shared keys make attention smaller, and a plain perceptron lacks a third of it.
    """
    hidden, _, blocks = sizes_of(config)
    text = config.get("text_config")
    places: Sequence[Mapping[str, Any]] = (text, config) if isinstance(text, Mapping) else (config,)
    stated = (place.get("intermediate_size") for place in places)
    inner = next((value for value in stated if isinstance(value, int) and value > 0), 4 * hidden)
    one: tuple[Shape, ...] = (*[(hidden, hidden)] * 4, (inner, hidden), (inner, hidden), (hidden, inner))
    return one * blocks if hidden else ()
