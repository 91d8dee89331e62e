"""Everything that can be refused before a weight is read, and what a run then needs."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from srr_core.calibration.dataset import TokenWindows, cut_windows, load_tokenizer
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import require_free
from srr_core.errors import (
    CalibrationError,
    CheckpointError,
    EvaluationError,
    ExportError,
    RecipeError,
    UnsupportedModelError,
)
from srr_core.formats.adapter import adapter_config, target_modules
from srr_core.formats.artifact_files import factor_names
from srr_core.formats.expert_factors import fuse_factors
from srr_core.formats.layout import Layout
from srr_core.formats.layouts import native_layout
from srr_core.models.architecture import Architecture
from srr_core.models.layers import STACKED_EXPERTS, LayerPlan, plan_layers
from srr_core.recipe import CalibrationSpec, EvaluationSpec, QuantizerSpec, Recipe
from srr_core.runtime.plain_tensors import require_complete
from srr_core.verification.attachment import check_attached

DISTRIBUTION = "srr-compression"
_NOT_RUN = frozenset({"deberta", "deberta-v2", "xlnet", "openai-gpt"})
"""Their blocks hand on more, or otherwise, than hidden states; they cannot be run one at a time."""
_NOT_RELOADED = frozenset({"llama4", "llama4_text"})
"""Stock transformers (5.23) finds no weights for the per-expert tensors of these when they are quantized."""


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
    calibration: TokenWindows
    evaluation: TokenWindows | None
    notes: tuple[str, ...]
    quantizers: Mapping[str, QuantizerSpec] = field(default_factory=dict)
    """Of layers that have another one than the recipe says, once a budget is spent."""

    def recipe_of(self, name: str) -> Recipe:
        """Return the recipe of one layer."""
        quantizer = self.quantizers.get(name)
        return self.recipe if quantizer is None else self.recipe.model_copy(update={"quantizer": quantizer})

    def fingerprint(self) -> dict[str, str]:
        """Return everything the bits of the layers depend on, for a resume to compare."""
        return {
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
        RecipeError: the device is not there.
    """
    require_free(destination)
    architecture = Architecture(source)
    weights = CheckpointReader(source)
    require_complete(architecture.model, weights.entries)
    layers = plan_layers(architecture, weights.entries)
    layout = choose_layout(architecture, layers, recipe)
    tokenizer = load_tokenizer(source)
    notes = _stacked_experts(layers, weights)
    window = _window(recipe.calibration, architecture, "calibration", notes)
    calibration = cut_windows(
        calibration_text,
        tokenizer,
        num_sequences=recipe.calibration.num_sequences,
        sequence_length=window,
        error=CalibrationError,
    )
    if len(calibration.ids) < recipe.calibration.num_sequences:
        notes.append(f"the calibration text holds {len(calibration.ids)} windows of {window} tokens; all were used")
    evaluation = None
    if recipe.evaluation is not None and evaluation_text is not None and not architecture.is_causal_lm:
        notes.append(f"{architecture.name} does not predict the next token, so no perplexity was measured")
    elif recipe.evaluation is not None and evaluation_text is not None:
        evaluation = cut_windows(
            evaluation_text,
            tokenizer,
            num_sequences=recipe.evaluation.num_sequences,
            sequence_length=_window(recipe.evaluation, architecture, "evaluation", notes),
            error=EvaluationError,
        )
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
        calibration=calibration,
        evaluation=evaluation,
        notes=tuple(notes),
    )


def choose_layout(architecture: Architecture, layers: LayerPlan, recipe: Recipe) -> Layout:
    """Return the layout the artifact will be written in.

    Raises:
        UnsupportedModelError: loaders would lose a part of the result.
    """
    _require_loadable(architecture)
    if recipe.rank:
        _require_attachable(architecture, layers, recipe.rank)
    return native_layout(
        recipe.quantizer,
        all_linear=layers.all_linear,
        in_features=[layer.shape[1] for layer in layers.layers],
        has_fused_experts=any(layer.expert is not None for layer in layers.layers),
    )


def _require_loadable(architecture: Architecture) -> None:
    kind = str(architecture.model.config.model_type)
    if kind in _NOT_RUN or architecture.model.main_input_name != "input_ids":
        raise UnsupportedModelError(
            f"blocks of {kind!r} models cannot be run one at a time on a text; causal language models and BERT-like "
            "encoders can"
        )
    if kind in _NOT_RELOADED:
        raise UnsupportedModelError(
            f"transformers does not load quantized experts of {kind!r} models; nothing could run the result"
        )


def _require_attachable(architecture: Architecture, layers: LayerPlan, rank: int) -> None:
    modules = [layer.name for layer in layers.layers]
    factors = {}
    for layer in layers.layers:
        right, left = factor_names(layer.name)
        factors[right] = torch.empty(rank, layer.shape[1], device="meta")
        factors[left] = torch.empty(layer.shape[0], rank, device="meta")
    try:
        config = adapter_config(
            rank=rank, target_modules=target_modules(modules), base_model=None, task=None, modules=modules
        )
        shapes = {name: factor.shape for name, factor in fuse_factors(factors, factors.__getitem__)}
        check_attached(copy.deepcopy(architecture.model), config, shapes)
    except (CheckpointError, ExportError) as error:
        raise UnsupportedModelError(
            f"stock loaders would not give every layer of {architecture.name} its L·R: {error}; "
            "use a recipe of rank 0, such as weight-only"
        ) from error


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


def _stacked_experts(layers: LayerPlan, weights: CheckpointReader) -> list[str]:
    kept = sum(weights.entries[name].num_bytes for name, reason in layers.kept.items() if reason == STACKED_EXPERTS)
    if not kept:
        return []
    return [
        f"the experts, {100 * kept / weights.total_bytes():.0f} % of the model's bytes, are kept in their source "
        "precision: this model stores all experts of a block in one tensor, and only experts with a tensor each are "
        "compressed"
    ]


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
