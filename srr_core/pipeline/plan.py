"""Everything that can be refused before a weight is read, and what a run then needs."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from srr_core.calibration.dataset import TokenWindows, cut_windows, load_tokenizer
from srr_core.checkpoint.carried_files import check_carried
from srr_core.checkpoint.header import TensorEntry
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import require_free
from srr_core.errors import (
    CalibrationError,
    CheckpointError,
    EvaluationError,
    RecipeError,
    UnsupportedModelError,
)
from srr_core.formats.adapter import AdapterTargets
from srr_core.formats.layout import Layout
from srr_core.formats.layouts import native_layout
from srr_core.models.architecture import Architecture
from srr_core.models.inputs import takes_text
from srr_core.models.layers import Layer, LayerPlan, plan_layers
from srr_core.pipeline.naming import mixture_parts
from srr_core.pipeline.source import open_source
from srr_core.recipe import CalibrationSpec, EvaluationSpec, QuantizerSpec, Recipe, cost
from srr_core.recipe.architectures import require_spendable
from srr_core.recipe.compatibility import rope_type
from srr_core.recipe.reach import require_reachable
from srr_core.recipe.targets import Model, require_target
from srr_core.runtime.plain_tensors import require_complete
from srr_core.verification.attachment import Attached, find_targets
from srr_core.verification.stock import reads_packed

DISTRIBUTION = "srr-compression"


@dataclass(frozen=True)
class RunPlan:
    """One run, checked: every part is there and fits the others."""

    source: Path
    destination: Path
    recipe: Recipe
    model_id: str
    revision: str | None
    artifact_id: str | None
    device: torch.device
    architecture: Architecture
    weights: CheckpointReader
    layers: LayerPlan
    layout: Layout
    targets: AdapterTargets
    calibration: TokenWindows
    evaluation: TokenWindows | None
    repair: TokenWindows | None
    """Windows of the calibration text that a repair learns from and is judged by; None where there is none."""
    notes: tuple[str, ...]
    quantizers: Mapping[str, QuantizerSpec] = field(default_factory=dict)
    """Of layers that have another one than the recipe says, once a budget is spent."""

    @property
    def rank(self) -> int:
        """Rank of the adapter; 0 where no layer has L·R."""
        is_in_adapter = (not layer.is_stacked and layer.name not in self.targets.bare for layer in self.layers.layers)
        return self.recipe.rank if any(is_in_adapter) else 0

    def recipe_of(self, layer: Layer) -> Recipe:
        """Return the recipe of one layer: of rank 0 where no loader would attach its L·R."""
        changes: dict[str, object] = {"rank": 0} if layer.name in self.targets.bare else {}
        if layer.name in self.quantizers:
            changes["quantizer"] = self.quantizers[layer.name]
        return self.recipe.model_copy(update=changes) if changes else self.recipe

    def fingerprint(self) -> dict[str, str]:
        """Return everything the bits of the layers depend on, for a resume to compare."""
        repaired = {} if self.repair is None else {"repair text": self.repair.describe().token_sha256}
        return repaired | {
            "source": self.revision or _folder_digest(self.weights),
            "model": self.model_id,
            "recipe": self.recipe.digest(),
            "calibration text": self.calibration.describe().token_sha256,
            "core version": core_version(),
            "torch version": torch.__version__,
            "transformers version": version("transformers"),
            "number of threads": str(torch.get_num_threads()),
            "configuration": hashlib.sha256((self.source / "config.json").read_bytes()).hexdigest(),
            "device": self.device.type,
            "processor": _processor(self.device),
        }


def plan_run(
    source: Path,
    recipe: Recipe,
    destination: Path,
    *,
    model_id: str | None,
    revision: str | None,
    artifact_id: str | None,
    calibration_text: Path,
    evaluation_text: Path | None,
    device: str,
) -> RunPlan:
    """Return a checked plan; reads configuration, headers and texts, but no weight.

    Raises:
        DestinationError: the destination exists.
        UnsupportedModelError: the model cannot be compressed.
        CheckpointError: the source is damaged, lacks a tensor or has no safetensors weights or tokenizer.
        CalibrationError, EvaluationError: a text is unreadable or too short.
        RecipeError: the device is not there, or a budget cannot be spent on such a model.
    """
    require_free(destination)
    architecture = Architecture(source)
    require_budget(architecture, recipe)
    weights, how_stored = open_source(source, architecture)
    require_complete(architecture.model, weights.entries)
    layers = plan_layers(architecture, weights.entries)
    require_share(layers, weights.entries, recipe)
    require_reach(layers, weights.entries, recipe)
    layout = choose_layout(architecture, layers, recipe)
    targets = choose_targets(architecture, layers, recipe)
    tokenizer = load_tokenizer(source)
    check_carried(source)
    little = cost.share_note(layers.compressed_share(weights.entries))
    notes = [*how_stored, *([little] if little else []), *_without_low_rank(targets)]
    calibration = calibration_windows(architecture, recipe, calibration_text, tokenizer, notes)
    repair = _repair_windows(recipe, calibration, calibration_text, tokenizer, notes)
    evaluation = None
    if recipe.evaluation is not None and evaluation_text is not None and not architecture.has_perplexity:
        notes.append(
            f"{architecture.name} does not predict the next token, so nothing was measured on the evaluation text"
        )
    elif recipe.evaluation is not None and evaluation_text is not None:
        evaluation = cut_windows(
            evaluation_text,
            tokenizer,
            num_sequences=recipe.evaluation.num_sequences,
            sequence_length=_window(recipe.evaluation, architecture, "evaluation", notes),
            error=EvaluationError,
        )
    for windows in (evaluation, repair):
        if windows is not None:
            _require_rows(architecture, windows, tokenizer)
    return RunPlan(
        source=source,
        destination=destination,
        recipe=recipe,
        model_id=model_id or source.resolve().name,
        revision=revision,
        artifact_id=artifact_id,
        device=choose_device(device),
        architecture=architecture,
        weights=weights,
        layers=layers,
        layout=layout,
        targets=targets,
        calibration=calibration,
        evaluation=evaluation,
        repair=repair,
        notes=tuple(notes),
    )


def require_budget(architecture: Architecture, recipe: Recipe) -> None:
    """Raise RecipeError where the recipe has a budget that cannot be spent on such a model."""
    require_spendable(recipe.budget, architecture.name, is_encoder_decoder=architecture.is_encoder_decoder)


def calibration_windows(
    architecture: Architecture, recipe: Recipe, text: Path, tokenizer: Any, notes: list[str]
) -> TokenWindows:
    """Return the windows a recipe calibrates on; what is to be said of them is added to the notes.

    Raises:
        CalibrationError: the text is unreadable or too short.
        CheckpointError: the tokenizer gives ids that the model has no row for.
    """
    spec = recipe.calibration
    window = _window(spec, architecture, "calibration", notes)
    found = cut_windows(
        text, tokenizer, num_sequences=spec.num_sequences, sequence_length=window, error=CalibrationError
    )
    if len(found.ids) < spec.num_sequences:
        notes.append(f"the calibration text holds {len(found.ids)} windows of {window} tokens; all were used")
    _require_rows(architecture, found, tokenizer)
    return found


def choose_layout(
    architecture: Architecture,
    layers: LayerPlan,
    recipe: Recipe,
    mixed: Mapping[str, QuantizerSpec] | None = None,
) -> Layout:
    """Return the layout the artifact will be written in.

    Args:
        mixed: Quantizers of layers that have another one than the recipe says, by name.
    Raises:
        UnsupportedModelError: loaders would lose a part of the result.
        RecipeError: the recipe's target does not take the result.
    """
    _require_loadable(architecture)
    shapes = frozenset(layer.shape for layer in layers.layers)
    all_linear = layers.all_linear and reads_packed(architecture.model)
    require_target(
        recipe,
        Model(
            shapes,
            architecture=architecture.name,
            rope=rope_type(architecture.config.to_dict()),
            all_linear=all_linear,
            has_experts=any(layer.expert is not None for layer in layers.layers),
        ),
    )
    # Config groups name modules as the model has them, so they serve no file that names them otherwise.
    is_named = not mixed or all(layer.name == layer.module for layer in layers.layers if layer.expert is None)
    return native_layout(
        recipe.quantizer,
        all_linear=all_linear and is_named,
        in_features=[layer.shape[1] for layer in layers.layers],
        has_fused_experts=any(layer.expert is not None for layer in layers.layers),
        mixed=mixed,
        rank=recipe.rank,
    )


def _require_loadable(architecture: Architecture) -> None:
    kind = str(architecture.model.config.model_type)
    if not takes_text(architecture.model):
        raise UnsupportedModelError(
            f"{kind!r} models ask for images or sound, and there is only text to calibrate on; choose a language "
            "model, an encoder of text or an encoder-decoder that reads text"
        )


def require_share(layers: LayerPlan, entries: Mapping[str, TensorEntry], recipe: Recipe) -> None:
    """Refuse a model of whose blocks too little would be compressed to call the result a compressed model.

    Raises:
        UnsupportedModelError: the message says how much, what keeps the most, and how to do it all the same.
    """
    share = layers.compressed_share(entries, of_blocks=True)
    if share >= recipe.min_share:
        return
    outside = frozenset(layers.outside)
    reasons: Counter[str] = Counter()
    for name, reason in layers.kept.items():
        if name not in outside:
            reasons[reason] += entries[name].num_bytes
    (largest, _), *_ = reasons.most_common(1)
    raise UnsupportedModelError(
        f"only {100 * share:.0f} % of the bytes in the model's blocks would be compressed; of the others most are kept "
        f"for this reason: {largest}. Set min_share to {math.floor(100 * share) / 100:g} to compress that part all the "
        "same"
    )


def require_reach(layers: LayerPlan, entries: Mapping[str, TensorEntry], recipe: Recipe) -> None:
    """Refuse a target that no choice of a budget's settings meets. Raises RecipeError with the range."""
    source_bytes = layers.compressed_bytes(entries)
    kept_bytes = sum(entry.num_bytes for entry in entries.values()) - source_bytes
    shapes = (layer.shape for layer in layers.layers)
    require_reachable(recipe, shapes, source_bytes=source_bytes, kept_bytes=kept_bytes)


def choose_targets(architecture: Architecture, layers: LayerPlan, recipe: Recipe) -> AdapterTargets:
    """Return how the adapter names its layers, and which layers have none because PEFT attaches nothing to them."""
    if not recipe.rank:
        return AdapterTargets()
    parts = mixture_parts(layers)
    attached = {
        layer.name: Attached(layer.module, layer.shape, parts.get(layer.name))
        for layer in layers.layers
        if not layer.is_stacked
    }
    return find_targets(architecture.model, attached, rank=recipe.rank)


def choose_device(name: str) -> torch.device:
    """Return the device a name stands for; `auto` is CUDA where there is one.

    Raises:
        RecipeError: CUDA was asked for and is not there, or the name is unknown.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise RecipeError(f"unknown device {name!r}; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device 'cuda' was asked for, but torch finds no CUDA device; use 'auto' or 'cpu'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def core_version() -> str:
    """Return the version of this package, as reports and fingerprints name it."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"


def _require_rows(architecture: Architecture, windows: TokenWindows, tokenizer: Any) -> None:
    rows = architecture.vocabulary_rows
    largest = int(windows.ids.max())
    if rows is not None and largest >= rows:
        raise CheckpointError(
            f"the tokenizer gives {tokenizer.convert_ids_to_tokens(largest)!r} the id {largest}, but the embedding of "
            f"the model has {rows} rows: tokens were added to one and not to the other; resize the embedding, or use "
            "the tokenizer that the model was saved with"
        )


def _without_low_rank(targets: AdapterTargets) -> list[str]:
    kinds = Counter(name.rpartition(".")[2] for name in targets.bare)
    return [
        f"{count} layers named {kind} have codes alone, without L·R: peft attaches nothing to them in this model"
        for kind, count in sorted(kinds.items())
    ]


def _repair_windows(
    recipe: Recipe, calibration: TokenWindows, text: Path, tokenizer: Any, notes: list[str]
) -> TokenWindows | None:
    if recipe.repair is None:
        return None
    wanted, windows = recipe.repair.num_sequences, calibration
    if wanted is not None:
        length = calibration.ids.shape[1]
        windows = cut_windows(text, tokenizer, num_sequences=wanted, sequence_length=length, error=CalibrationError)
        if len(windows.ids) < wanted:
            notes.append(f"the calibration text holds {len(windows.ids)} windows to repair with; all were used")
    if len(windows.ids) < 2:
        raise CalibrationError(
            "the calibration text holds one window, but a repair needs one to learn from and one to judge by; give "
            "more text or a smaller calibration.sequence_length"
        )
    return windows


def _window(spec: CalibrationSpec | EvaluationSpec, architecture: Architecture, use: str, notes: list[str]) -> int:
    longest = architecture.max_sequence_length or spec.sequence_length
    if spec.sequence_length > longest:
        notes.append(f"{use} windows were shortened from {spec.sequence_length} to the model's {longest} tokens")
    return min(spec.sequence_length, longest)


def _processor(device: torch.device) -> str:
    # Kernels differ in the last bit between instruction sets and between models of GPUs.
    return torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()


def _folder_digest(weights: CheckpointReader) -> str:
    # Without a commit sha: names, places, sizes and times of the weight files stand for their content.
    digest = hashlib.sha256()
    for name, entry in sorted(weights.entries.items()):
        stat = entry.file.stat()
        facts = (name, entry.file.name, entry.begin, entry.end, stat.st_size, stat.st_mtime_ns)
        digest.update(repr(facts).encode())
    return digest.hexdigest()
