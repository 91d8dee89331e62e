"""Every check that can be made before a job is queued: of the model, of the destination, of what it would take."""

import math
import re
import statistics
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from service.api.model_schemas import Estimate, ModelResource, ProblemNote, Validation
from service.hub.destination import check_destination
from service.hub.errors import HubError, HubUnavailableError
from service.hub.metadata import HubMetadata
from service.hub.model import ResolvedModel, check_compressible
from service.hub.releases import HubReleases
from service.hub.weights import Weights
from service.jobs.schema import JobFilter, JobState, JobSubmission
from service.jobs.store import JobStore
from srr_core.errors import UnsupportedModelError
from srr_core.recipe import Recipe
from srr_core.recipe.compatibility import compatibility

SCRATCH_FACTOR = 2.5
"""Scratch space as a multiple of the download, as the worker reserves it."""
HISTORY = 10
"""Earlier jobs that an estimate of time is taken from."""
_SOURCE_BITS = 16
_BLOCK_TENSOR = re.compile(r"\.\d+\..*\.weight$")
_ROUTER = re.compile(r"\.(gate|router|shared_expert_gate)\.weight$")
_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts")

Shape = tuple[int, int]


class Hubs(Protocol):
    """Which hub has a model, and which one artifacts go to."""

    def source(self, model_id: str) -> HubMetadata:
        """Return the hub that has a model."""

    @property
    def destination(self) -> HubMetadata:
        """The hub artifacts are published to."""

    @property
    def releases(self) -> HubReleases:
        """The hub whose releases are watched."""

    @property
    def watched(self) -> HubMetadata:
        """The hub that `releases` lists."""

    def known_sha(self, model_id: str, revision: str) -> str | None:
        """Return the commit of a revision if that is known without asking over the network."""


def inspect_model(hubs: Hubs, model_id: str, revision: str, *, token: str | None = None) -> ModelResource:
    """Return what is known of a model without downloading a weight.

    Raises:
        HubError: the model cannot be found or may not be read.
    """
    hub = hubs.source(model_id)
    model = hub.resolve(model_id, revision, token=token)
    resource, _ = _inspect(hub, model, token)
    return resource


def validate(
    submission: JobSubmission, hubs: Hubs, store: JobStore, *, owner: str, token: str | None = None
) -> Validation:
    """Run every check of a submission and change nothing.

    Raises:
        HubUnavailableError: the hub does not answer, so nothing can be said.
    """
    hub = hubs.source(submission.source.model_id)
    try:
        model = hub.resolve(submission.source.model_id, submission.source.revision, token=token)
    except HubUnavailableError:
        raise
    except HubError as error:
        return refused(_note(error))
    resource, weights = _inspect(hub, model, token)
    exists, private, conflict = _destination(submission, hubs, model, token)
    problems = [*resource.problems, *([conflict] if conflict else [])]
    shapes = compressed_shapes(weights) if weights else []
    return Validation(
        valid=not problems,
        problems=problems,
        model=resource,
        destination_exists=exists,
        destination_private=private,
        estimate=estimate(submission.recipe, model, weights, store, owner=owner) if weights else None,
        compatibility=list(
            compatibility(
                submission.recipe, shapes, has_experts=any(key in (model.config or {}) for key in _EXPERT_KEYS)
            )
        ),
    )


def estimate(recipe: Recipe, model: ResolvedModel, weights: Weights, store: JobStore, *, owner: str) -> Estimate:
    """Return what a job would take, from names and shapes and from earlier jobs of the owner."""
    shapes = compressed_shapes(weights)
    compressed = sum(math.prod(shape) for shape in shapes)
    bits = sum(recipe.bits_per_weight(*shape) * math.prod(shape) for shape in shapes)
    kept_bytes = model.weight_bytes * (1 - compressed / max(weights.parameters, 1))
    return Estimate(
        layers=len(shapes),
        bits_per_weight=bits / compressed if compressed else _SOURCE_BITS,
        artifact_bytes=round(bits / 8 + kept_bytes),
        scratch_bytes=round(model.download_bytes * SCRATCH_FACTOR),
        seconds=_seconds(recipe, model, store, owner=owner),
    )


def compressed_shapes(weights: Weights) -> list[Shape]:
    """Return (out, in) of the weights a run would compress, judged by name and shape: matrices of repeated blocks.

    The core decides by the model class; without it, a transposed layer counts the wrong way round.
    """
    return [
        (int(tensor.shape[0]), int(tensor.shape[1]))
        for name, tensor in weights.tensors.items()
        if len(tensor.shape) == 2 and _BLOCK_TENSOR.search(name) and not _ROUTER.search(name)
    ]


def check_config(config: Mapping[str, Any] | None) -> None:
    """Refuse what the core would refuse, as far as a configuration tells it without transformers.

    Raises:
        UnsupportedModelError: the model is quantized already, an encoder-decoder, or of an unknown class.
    """
    if config is None or not config.get("architectures"):
        raise UnsupportedModelError("config.json names no architecture, so the model class is unknown")
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, Mapping) else "unknown"
        raise UnsupportedModelError(f"the model is quantized already ({method}); start from its 16-bit source")
    if config.get("is_encoder_decoder"):
        raise UnsupportedModelError(
            f"{config['architectures'][0]} is an encoder-decoder; causal language models and encoders are supported"
        )


def _inspect(hub: HubMetadata, model: ResolvedModel, token: str | None) -> tuple[ModelResource, Weights | None]:
    problems = [
        problem
        for check in (lambda: check_compressible(model), lambda: check_config(model.config))
        if (problem := _complaint(check)) is not None
    ]
    weights: Weights | None = None

    def read_headers() -> None:
        nonlocal weights
        weights = hub.inspect(model, token=token)

    if model.has_safetensors and (problem := _complaint(read_headers)) is not None:
        problems.append(problem)
    resource = ModelResource(
        model_id=model.model_id,
        sha=model.sha,
        private=model.private,
        gated=model.gated,
        license=model.license_name or model.license,
        architectures=model.architectures,
        pipeline_tag=model.pipeline_tag,
        parameters=weights.parameters if weights else None,
        dtypes=dict(weights.dtypes) if weights else {},
        weight_bytes=model.weight_bytes,
        download_bytes=model.download_bytes,
        url=model.url,
        problems=problems,
    )
    return resource, weights


def _destination(
    submission: JobSubmission, hubs: Hubs, model: ResolvedModel, token: str | None
) -> tuple[bool, bool | None, ProblemNote | None]:
    try:
        destination = hubs.destination.destination(submission.destination.repo_id, token=token)
        private = check_destination(destination, model, private=submission.destination.private)
    except HubUnavailableError:
        raise
    except HubError as error:
        return False, None, _note(error)
    return destination.exists, private, None


def _seconds(recipe: Recipe, model: ResolvedModel, store: JobStore, *, owner: str) -> float | None:
    page = store.list(JobFilter(owner=owner, states=(JobState.SUCCEEDED,), recipe=recipe.name), limit=HISTORY)
    speeds = [speed for job in page.jobs if (speed := _seconds_per_byte(store.report(job.id))) is not None]
    return statistics.median(speeds) * model.weight_bytes if speeds else None


def _seconds_per_byte(report: Mapping[str, Any]) -> float | None:
    source_bytes = report["size_bytes"]["source"]
    return sum(report["seconds"].values()) / source_bytes if source_bytes else None


def _complaint(check: Callable[[], None]) -> ProblemNote | None:
    try:
        check()
    except HubUnavailableError:
        raise
    except (HubError, UnsupportedModelError) as error:
        return _note(error)
    return None


def _note(error: HubError | UnsupportedModelError) -> ProblemNote:
    return ProblemNote(code=error.code, message=str(error))


def refused(*problems: ProblemNote) -> Validation:
    """Return the answer to a submission of whose model nothing is known."""
    return Validation(
        valid=False,
        problems=list(problems),
        model=None,
        destination_exists=False,
        destination_private=None,
        estimate=None,
        compatibility=[],
    )
