"""The form of a conversion: what was typed becomes a submission, or a message beside each wrong field."""

from collections.abc import Mapping
from typing import Final, get_args

from pydantic import TypeAdapter

from service.jobs.schema import Job, JobSubmission
from service.jobs.work import CompressWork, ConvertWork, FinetuneWork, JobDestination, JobSource
from service.web.forms import VISIBILITY, FormError, Gathered, SubmitForm, own_namespace, read_tags
from srr_core.recipe.exporters import ConversionKind, ConversionSpec, GGUFSpec, MergedSpec

TARGETS: Final[Mapping[ConversionKind, tuple[str, str]]] = {
    "gguf": ("GGUF", "One file for llama.cpp and what builds on it."),
    "gptq": ("GPTQ", "Q packed for GPTQ kernels, L·R a LoRA beside it. Uniform grids of 2, 3, 4 or 8 bits."),
    "merged": ("Merged", "One dense matrix per layer: loads everywhere, and is as large as the source."),
}
"""Formats, in words."""
GGUF_FORMS: Final = {
    "auto": "Best: Q exactly where a type holds it, else rounded finely",
    "none": "Q exactly, and L·R in a second file",
    **{name: name.upper() for name in ("q4_k", "q6_k", "q8_0", "f16", "bf16", "f32")},
}
DTYPES: Final[tuple[str, ...]] = get_args(MergedSpec.model_fields["dtype"].annotation)
TEXT_FIELDS = (
    "again",
    "model_id",
    "revision",
    "target",
    "merged",
    "dtype",
    "allow_inexact",
    "repo_id",
    "visibility",
    "acknowledge_license",
    "tags",
    "force",
)
_TARGET: TypeAdapter[ConversionSpec] = TypeAdapter(ConversionSpec)


def submission(form: SubmitForm, *, owner: str) -> JobSubmission:
    """Return what a form asks for.

    Args:
        owner: Whose namespace an unnamed destination lies in.
    Raises:
        FormError: at least one field is wrong; every wrong one is named.
    """
    gathered, values = Gathered(), form.values
    source = gathered.value(lambda: JobSource(model_id=values["model_id"], revision=values["revision"] or "main"))
    target = gathered.value(lambda: _target(values))
    named = values["repo_id"] or default_destination(values["model_id"], values["target"], owner=owner)
    destination = None
    if values["repo_id"] or (source and target):  # a wrong model is blamed once, where it was typed
        destination = gathered.value(
            lambda: JobDestination(repo_id=named, private=VISIBILITY.get(values["visibility"]))
        )
    tags = gathered.value(lambda: read_tags(values["tags"]))
    if gathered.messages or source is None or target is None or destination is None:
        raise FormError(gathered.messages)
    work = ConvertWork(
        source=source,
        target=target,
        destination=destination,
        acknowledge_license=bool(values["acknowledge_license"]),
    )
    return JobSubmission(work=work, tags=tags or ())


def default_destination(model_id: str, target: str, *, owner: str) -> str:
    """Return the repository that an empty destination stands for: `us/name-gguf`."""
    namespace, _, name = model_id.rpartition("/")
    return f"{own_namespace(owner) or namespace}/{name}-{target}"


def values_of(work: ConvertWork, *, job: Job) -> dict[str, str]:
    """Return the fields that would submit a conversion again."""
    words = {value: word for word, value in VISIBILITY.items()}
    target = {name: _word(value) for name, value in work.target.model_dump(exclude={"kind"}).items()}
    return dict.fromkeys(TEXT_FIELDS, "") | {
        "again": job.id,
        "model_id": work.source.model_id,
        "revision": work.source.revision,
        "target": work.target.kind,
        "repo_id": work.destination.repo_id,
        "visibility": words[work.destination.private],
        "acknowledge_license": _word(work.acknowledge_license),
        "tags": ", ".join(job.tags),
        **target,
    }


def values_for(job: Job, target: str) -> dict[str, str]:
    """Return the fields that would convert what another job published; where it published nothing, its model."""
    made = job.work.destination_id if isinstance(job.work, CompressWork | FinetuneWork) else ""
    return dict.fromkeys(TEXT_FIELDS, "") | {
        "model_id": made or job.work.source.model_id,
        "target": target if target in TARGETS else next(iter(TARGETS)),
    }


def _target(values: Mapping[str, str]) -> ConversionSpec:
    kind = values["target"]
    if kind not in TARGETS:
        raise FormError({"target": f"One of {', '.join(TARGETS)}."})
    fields: dict[str, object] = {"kind": kind}
    if kind == GGUFSpec().kind:
        fields |= {"merged": values["merged"] or "auto", "allow_inexact": bool(values["allow_inexact"])}
    if kind == MergedSpec().kind and values["dtype"]:
        fields["dtype"] = values["dtype"]
    return _TARGET.validate_python(fields)


def _word(value: object) -> str:
    return ("on" if value else "") if isinstance(value, bool) else str(value)
