"""Everything about a fine-tuning that can be refused before a weight is read, and what its bits depend on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from srr_core.calibration.dataset import TokenWindows, cut_windows, load_tokenizer
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.writer import require_free
from srr_core.errors import CheckpointError, EvaluationError, RecipeError
from srr_core.formats.artifact_files import read_configuration
from srr_core.formats.stored_forms import read_marker
from srr_core.kernels.paths import multiplies_bfloat16
from srr_core.pipeline.plan import choose_device, core_version
from srr_core.recipe.architectures import WINDOW_FIELDS
from srr_core.recipe.tuning import ArtifactStart, RecipeStart, RecompressedResult, TuningSpec
from srr_core.tuners.dataset import Dataset, prepare
from srr_core.tuners.folders import can_go_on, is_artifact
from srr_core.tuners.kept import require_kept
from srr_core.tuners.kept_start import steps_in
from srr_core.tuners.rows import file_digest

TOKENIZER_WITHOUT_LIMIT = 10_000_000
"""What a tokenizer says that knows no longest text is above this."""


@dataclass(frozen=True)
class TuningPlan:
    """One fine-tuning, checked."""

    source: Path
    destination: Path
    spec: TuningSpec
    """Without any "auto"."""
    model_id: str
    revision: str | None
    artifact_id: str | None
    device: torch.device
    config: Mapping[str, Any]
    tokenizer: Any
    stops: frozenset[int]
    """Tokens that end a generation."""
    dataset: Dataset
    calibration_text: Path | None
    neutral: TokenWindows | None
    notes: tuple[str, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Of the base and of activations."""
        return torch.bfloat16 if self.spec.precision == "bfloat16" else torch.float32

    def fingerprint(self) -> dict[str, str]:
        """Return everything the bits of the result depend on, for a resume to compare."""
        return {
            "source": self.revision or _folder_digest(self.source),
            "model": self.model_id,
            "specification": self.spec.digest(),
            "data": self.dataset.report.sha256,
            "calibration text": "" if self.calibration_text is None else file_digest(self.calibration_text),
            "core version": core_version(),
            "torch version": torch.__version__,
            "transformers version": version("transformers"),
            "peft version": version("peft"),
            "number of threads": str(torch.get_num_threads()),
            "device": self.device.type,
            "processor": (
                torch.cuda.get_device_name(self.device)
                if self.device.type == "cuda"
                else f"{torch.backends.cpu.get_cpu_capability()}{', bf16' if multiplies_bfloat16() else ''}"
            ),
        }


def plan_tuning(
    source: Path,
    data: Path,
    spec: TuningSpec,
    destination: Path,
    *,
    validation_data: Path | None,
    calibration_text: Path | None,
    neutral_text: Path | None,
    model_id: str | None,
    revision: str | None,
    artifact_id: str | None,
    device: str,
) -> TuningPlan:
    """Return a checked plan; reads configuration, tokenizer and data, but no weight.

    Raises:
        DestinationError: the destination exists.
        RecipeError: the start does not go with the source, or needs a calibration text.
        TrainingDataError: the rows cannot be learned from.
        EvaluationError: the neutral text is unreadable or too short.
        CheckpointError: the source is damaged.
    """
    require_free(destination)
    config = read_json(source / "config.json")
    _require_start(source, spec, calibration_text)
    tokenizer = load_tokenizer(source)
    notes: list[str] = []
    is_fresh = _is_fresh(source, spec, config)
    resolved = _within_window(spec.resolved(starts_fresh=is_fresh), source, tokenizer, notes)
    stops = _stops(source, tokenizer)
    dataset = prepare(data, resolved, tokenizer, validation=validation_data, stops=stops)
    neutral = None
    if neutral_text is not None and dataset.labels == () and resolved.task.kind not in {"regression", "glue"}:
        neutral = cut_windows(
            neutral_text,
            tokenizer,
            num_sequences=resolved.neutral.num_sequences,
            sequence_length=min(resolved.neutral.sequence_length, resolved.data.window),
            error=EvaluationError,
        )
    return TuningPlan(
        source=source,
        destination=destination,
        spec=resolved,
        model_id=model_id or source.resolve().name,
        revision=revision,
        artifact_id=artifact_id,
        device=choose_device(device),
        config=config,
        tokenizer=tokenizer,
        stops=stops,
        dataset=dataset,
        calibration_text=calibration_text,
        neutral=neutral,
        notes=tuple(notes),
    )


def _require_start(source: Path, spec: TuningSpec, calibration_text: Path | None) -> None:
    start = spec.start
    if not isinstance(start, ArtifactStart):
        if can_go_on(source):
            what = "compressed already" if is_artifact(source) else "a result of ours with its adapter beside it"
            raise RecipeError(f"{source.name!r} is {what}; start from it as it is (start 'artifact')")
    elif start.checkpoint is not None:
        require_kept(source.name, start.checkpoint, steps_in(source))
    elif not can_go_on(source):
        kept = steps_in(source)
        also = f", or one of its checkpoints ({', '.join(map(str, kept))})" if kept else ""
        raise RecipeError(f"{source.name!r} is no artifact of ours; name a recipe to start with{also}, or 'lora'")
    needs_text = isinstance(spec.start, RecipeStart) or isinstance(spec.result, RecompressedResult)
    if needs_text and calibration_text is None:
        raise RecipeError("a calibration text is needed to compress the model")


def _is_fresh(source: Path, spec: TuningSpec, config: Mapping[str, Any]) -> bool | None:
    """Return whether what is gone on from brings no L·R; None where the specification says it."""
    if not isinstance(spec.start, ArtifactStart):
        return None
    if spec.start.checkpoint is not None or not is_artifact(source):
        return False
    return not read_marker(config["quantization_config"], file="config.json").rank


def _within_window(spec: TuningSpec, source: Path, tokenizer: Any, notes: list[str]) -> TuningSpec:
    text = read_configuration(source).get_text_config()
    limits = [getattr(text, name, None) for name in WINDOW_FIELDS]
    known = [limit for limit in limits if isinstance(limit, int) and limit > 0]
    if tokenizer.model_max_length < TOKENIZER_WITHOUT_LIMIT:
        known.append(int(tokenizer.model_max_length))
    longest = min(known, default=spec.data.window)
    if spec.data.window <= longest:
        return spec
    notes.append(f"the window was shortened from {spec.data.window} to the model's {longest} tokens")
    return spec.model_copy(update={"data": spec.data.model_copy(update={"window": longest})})


def _stops(source: Path, tokenizer: Any) -> frozenset[int]:
    file = source / "generation_config.json"
    stated = read_json(file).get("eos_token_id") if file.exists() else None
    listed = stated if isinstance(stated, list) else [stated]
    wrong = next((token for token in listed if token is not None and type(token) is not int), None)
    if wrong is not None:
        raise CheckpointError(f"{file.name}: eos_token_id names {str(wrong)[:100]!r}, which is no number of a token")
    return frozenset(int(token) for token in (*listed, tokenizer.eos_token_id) if token is not None)


def _folder_digest(source: Path) -> str:
    # Without a commit sha: names, sizes and times of the files stand for their content.
    digest = hashlib.sha256((source / "config.json").read_bytes())
    for file in sorted(source.glob("*.safetensors")):
        stat = file.stat()
        digest.update(repr((file.name, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()
