"""What a job would take: memory and disk from names and shapes, time from earlier jobs or the speed of the workers."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from examples import CALIBRATION_TEXT
from service.hub.model import ResolvedModel
from service.hub.result_bits import bits_of_result, bytes_of_result, compressed_bits, kept_bytes
from service.hub.weights import Weights
from service.jobs.ports import JobReading
from service.jobs.schema import JobFilter, JobState
from service.jobs.windows import job_recipe
from service.jobs.work import CompressWork
from service.submissions.fleet import Fleet
from service.submissions.schema import Estimate
from srr_core.recipe import Recipe, cost
from srr_core.recipe.architectures import WINDOW_FIELDS

SCRATCH_FACTOR = 2.5
"""Scratch space as a multiple of the download, as the worker reserves it."""
HISTORY = 10
"""Earlier jobs that an estimate of time is taken from."""
_SOURCE_BITS = 16
_HIDDEN_SIZES = ("hidden_size", "n_embd", "d_model", "dim")


def run_recipe(work: CompressWork, model: ResolvedModel) -> Recipe:
    """Return the recipe of a compression with no more calibration than its text and the model's window hold."""
    text = work.calibration.text if work.calibration is not None else None
    text_bytes = len(text.encode()) if text is not None else CALIBRATION_TEXT.stat().st_size
    lengths = [place.get(name) for place in _places(model.config or {}) for name in WINDOW_FIELDS]
    longest = next((length for length in lengths if isinstance(length, int) and length > 0), None)
    return cost.fitted(job_recipe(work), text_bytes=text_bytes, longest_window=longest)


def memory_bytes(recipe: Recipe, model: ResolvedModel, weights: Weights) -> int:
    """Return the peak memory of a run where layers are computed."""
    anatomy = weights.anatomy
    return cost.memory_bytes(
        recipe,
        largest_block=anatomy.largest_block,
        input_widths=anatomy.input_widths,
        hidden_size=_hidden_size(model.config or {}),
    )


def scratch_bytes(model: ResolvedModel) -> int:
    """Return the disk a worker needs while it works."""
    return round(model.download_bytes * SCRATCH_FACTOR)


def estimate(
    recipe: Recipe, model: ResolvedModel, weights: Weights, store: JobReading, fleet: Fleet, *, owner: str
) -> Estimate:
    """Return what a job would take, from names and shapes, from earlier jobs of the owner and from the workers."""
    shapes = weights.anatomy.shapes
    compressed = sum(math.prod(shape) for shape in shapes)
    bits = compressed_bits(recipe, model, weights)
    work = cost.operations(recipe, shapes)
    worker = fleet.fastest()
    rate = worker.operations_per_second if worker is not None else None
    seconds = _seconds(recipe, model, store, owner=owner)
    if seconds is None and rate is not None:
        seconds = cost.seconds(work, rate)
    is_gpu = worker is not None and worker.has_gpu
    return Estimate(
        layers=len(shapes),
        bits_per_weight=bits / compressed if compressed else _SOURCE_BITS,
        bits_of_model=bits_of_result(recipe, model, weights),
        artifact_bytes=round(bytes_of_result(recipe, model, weights)),
        scratch_bytes=scratch_bytes(model),
        memory_bytes=memory_bytes(recipe, model, weights),
        operations=work,
        seconds=seconds,
        gpu_minutes=seconds / 60 if seconds is not None and is_gpu else None,
    )


def size_note(recipe: Recipe, model: ResolvedModel, weights: Weights) -> str | None:
    """Return what must be said of a result that would be hardly smaller than the model; else None."""
    return cost.size_note(
        source_bytes=model.weight_bytes,
        result_bytes=round(bytes_of_result(recipe, model, weights)),
        kept_bytes=kept_bytes(model, weights),
    )


def _seconds(recipe: Recipe, model: ResolvedModel, store: JobReading, *, owner: str) -> float | None:
    earlier = JobFilter(owner=owner, kind="compress", states=(JobState.SUCCEEDED,), recipe=recipe.name)
    page = store.list(earlier, limit=HISTORY)
    speeds = [speed for job in page.jobs if (speed := _seconds_per_byte(store.report(job.id))) is not None]
    return statistics.median(speeds) * model.weight_bytes if speeds else None


def _seconds_per_byte(report: Mapping[str, Any]) -> float | None:
    try:
        source_bytes = report["size_bytes"]["source"]
        return float(sum(report["seconds"].values()) / source_bytes) if source_bytes else None
    except (KeyError, TypeError):
        return None  # a report of another version says nothing here, and the others still do


def _places(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    text = config.get("text_config")
    return (config, text) if isinstance(text, Mapping) else (config,)


def _hidden_size(config: Mapping[str, Any]) -> int:
    sizes = (place.get(name) for place in _places(config) for name in _HIDDEN_SIZES)
    return max((size for size in sizes if isinstance(size, int)), default=0)
