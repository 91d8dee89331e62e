"""The model card of an artifact, from its report and its source. Pure: the same report, the same card."""

import json
import re
from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCardData

from service.hub.model import ResolvedModel
from srr_core.recipe import Recipe
from srr_core.recipe.byte_sizes import size_words
from srr_core.report import LayerReport, Measurement, Report
from srr_core.telling.loading import needs_newest_words, our_step, served_rank, transformers_steps
from srr_core.telling.markdown import cell, code, table
from srr_core.telling.sizes import bits_parts, report_bits
from worker.card_pictures import picture_sections, verdict_section
from worker.card_uses import fenced, use_sections

CARD_TAG = "srr"
"""Every card of ours carries this tag, so that artifacts can be listed and filtered on a hub."""
COMPRESSED_TENSORS = "compressed-tensors"
_TAG = re.compile(r"[\w.+:/-]{1,60}")
_WORST_LAYERS = 10
"""A large model has hundreds of layers; report.json holds them all."""


def model_card(report: Report, *, repo_id: str, source: ResolvedModel, quant_method: str = COMPRESSED_TENSORS) -> str:
    """Return README.md of an artifact: metadata block and text.

    Args:
        source: The model at the commit that was compressed; licence, languages and task are copied from it.
        quant_method: As in the artifact's config.json. Anything but compressed-tensors needs our own loader.
    """
    sections = (
        _title(report, repo_id, source),
        verdict_section(report),
        _loading(report, repo_id, quant_method),
        *use_sections(report, repo_id, is_stock=quant_method == COMPRESSED_TENSORS),
        _results(report),
        _layers(report.layers),
        *picture_sections(report),
        _method(report.recipe),
        _provenance(report, source),
        _limitations(report, source),
    )
    return f"---\n{_metadata(report, repo_id, source)}\n---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(report: Report, repo_id: str, source: ResolvedModel) -> str:
    recipe = report.recipe
    data = ModelCardData(
        base_model=source.model_id,
        base_model_relation="quantized",
        license=source.license,
        license_name=source.license_name,
        license_link=source.license_link,
        language=list(source.languages) or None,
        library_name="transformers",
        pipeline_tag=source.pipeline_tag or _task(report),
        tags=[
            *(CARD_TAG, "quantized", *(["low-rank"] if recipe.rank else [])),
            *(recipe.quantizer.kind, f"{recipe.quantization_bits}-bit", recipe.name),
            *_source_tags(source),
        ],
        model_name=repo_id,
        eval_results=[_eval_result(report, row) for row in report.measurements] or None,
    )
    return data.to_yaml().strip()


def _source_tags(source: ResolvedModel) -> list[str]:
    """What the source's own card says it is; tags that its hub adds speak of its files, not of ours."""
    tags = source.card.get("tags")
    return [tag for tag in tags if isinstance(tag, str) and _TAG.fullmatch(tag)] if isinstance(tags, list) else []


def _task(report: Report) -> str | None:
    return "text-generation" if report.source.architecture.endswith("ForCausalLM") else None


def _eval_result(report: Report, row: Measurement) -> EvalResult:
    text = f"{row.tokens} tokens, token ids sha256 {row.text.token_sha256[:12]}" if row.text is not None else row.metric
    return EvalResult(
        task_type=_task(report) or "feature-extraction",
        dataset_type="text",
        dataset_name=text,
        metric_type=row.evaluator,
        metric_name=row.metric,
        metric_value=round(row.compressed, 4),
    )


def _title(report: Report, repo_id: str, source: ResolvedModel) -> str:
    recipe, bits = report.recipe, report.bits_per_weight
    correction = (
        f" plus a low-rank correction L·R of rank {recipe.rank} ({bits.low_rank:.2f} bits)" if recipe.rank else ""
    )
    return (
        f"# {repo_id.split('/', maxsplit=1)[1]}\n\n"
        f"{_linked(source)} with its linear layers written as W ≈ Q"
        f"{' + L·R' if recipe.rank else ''}: {recipe.quantization_bits}-bit weights Q "
        f"({bits.quantized:.2f} bits per weight with scales){correction}. Bits per weight: {report_bits(report)}. "
        f"Method: {code(recipe.name)}{_sentence(cell(recipe.title))}"
    )


def _linked(source: ResolvedModel) -> str:
    return f"[{source.model_id}]({source.url})" if source.url else f"`{source.model_id}`"


def _sentence(title: str) -> str:
    return f" ({title[0].lower()}{title[1:]})." if title else "."


def _loading(report: Report, repo_id: str, quant_method: str) -> str:
    if quant_method != COMPRESSED_TENSORS:
        return (
            "## How to load\n\nThis layout is read by the `srr` package only; transformers alone refuses it.\n\n"
            f"{fenced(our_step(repo_id))}"
        )
    packages, code = transformers_steps(report, repo_id)
    text = (
        f"## How to load\n\n{fenced(packages)}\n\n{fenced(code)}\n\n"
        "No custom code and no `trust_remote_code`. transformers unpacks Q to dense weights when it loads, so memory "
        f"is that of the source model.{_environments(report)}"
    )
    return f"{text}\n\n{_ADAPTER_WARNING}" if served_rank(report) else text


def _environments(report: Report) -> str:
    if not needs_newest_words(report):
        return ""
    return (
        f" {report.recipe.quantization_bits} bits need compressed-tensors 0.18, and vLLM 0.33 pins 0.17: give "
        "transformers and vLLM an environment each."
    )


_ADAPTER_WARNING = (
    "> **Install `peft`.** L·R is a LoRA adapter in this repository. Without `peft`, transformers loads Q alone, "
    "silently: the model runs, and is worse than every number below."
)


def _results(report: Report) -> str:
    size = report.size_bytes
    rows = [
        ("Weight files", size_words(size.source), size_words(size.compressed)),
        ("Bits per weight", "", report_bits(report)),
        ("What they are made of", "", bits_parts(report)),
        ("Mean output error of a layer", "0", f"{report.mean_output_error:.4f}"),
        *(
            (f"{cell(row.metric)}, {row.direction} is better", _source(row), _compressed(row))
            for row in report.measurements
        ),
    ]
    protocols = "\n".join(f"\n{code(row.metric)}: {cell(row.protocol)}" for row in report.measurements)
    return (
        "## Results\n\n"
        + table(("", "source", "this model"), rows)
        + "\n\nOutput error is ‖x(W − Ŵ)‖ / ‖xW‖ over the calibration inputs."
        + (protocols or "\n\nNo text was given to evaluate on.")
    )


def _source(row: Measurement) -> str:
    return "" if row.source is None else row.number(row.source)


def _compressed(row: Measurement) -> str:
    note = row.note()
    return row.number(row.compressed) + (f" ({cell(note)})" if note else "")


def _layers(layers: Sequence[LayerReport]) -> str:
    worst = sorted(layers, key=lambda layer: layer.output_error, reverse=True)[:_WORST_LAYERS]
    rows = [
        (
            code(layer.name),
            f"{layer.shape[0]}×{layer.shape[1]}",
            f"{layer.preserved_rank} of {layer.rank}",
            f"{layer.output_error:.4f}",
            f"{layer.output_error_quantized_only:.4f}",
        )
        for layer in worst
    ]
    shown = f"The {len(worst)} layers with the largest error of {len(layers)}; `report.json` has all."
    header = ("layer", "out×in", "preserved rank", "output error", "without L·R")
    alone = (
        "\n\nQ is what remains after the factors have taken their share, so without L·R it is no model by itself."
        if any(layer.preserved_rank for layer in layers)
        else ""
    )
    return f"## Layers\n\n{shown}{alone}\n\n{table(header, rows)}"


def _method(recipe: Recipe) -> str:
    reference = f"Reference: {cell(recipe.reference)}\n\n" if recipe.reference else ""
    return f"## Recipe\n\n{reference}```json\n{json.dumps(recipe.model_dump(mode='json'), indent=2)}\n```"


def _provenance(report: Report, source: ResolvedModel) -> str:
    environment, calibration = report.environment, report.calibration
    versions = cell(", ".join(f"{name} {version}" for name, version in sorted(environment.versions.items())))
    lines = (
        f"* Source: `{source.model_id}`" + (f" at commit `{source.sha}`" if source.sha else ", a folder"),
        f"* Calibration: {calibration.sequences} sequences of {calibration.sequence_length} tokens, token ids sha256 "
        + code(calibration.token_sha256),
        f"* Made by srr_core {cell(environment.core_version)} on {cell(environment.device)} with {versions}",
        f"* Recipe digest: `{report.recipe.digest()}`",
        *(f"* Noted: {cell(note)}" for note in report.notes),
    )
    origin = source.model_id if source.url else "FOLDER_OF_THE_SOURCE"
    revision = f" --revision {source.sha}" if source.url else ""
    evaluation = " --evaluation-text evaluation.txt" if report.measurements else ""
    command = (
        f"srr compress {origin} artifact{revision} --recipe recipe.json --calibration-text calibration.txt{evaluation}"
    )
    return (
        "## Provenance\n\n" + "\n".join(lines) + "\n\nTo make it again, with the same texts and `recipe.json` of this "
        f"repository:\n\n```sh\n{command}\n```"
    )


def _limitations(report: Report, source: ResolvedModel) -> str:
    licensed = (
        f"The licence is that of the source ({cell(source.license)}) and its terms apply."
        if source.license
        else "The source names no licence; ask its owner before using or sharing this model."
    )
    metrics = "".join(f"{cell(row.title).lower()}, " for row in report.measurements)
    lines = [
        f"* Measured were {metrics}and layer errors only; no downstream task was run.",
        "* Numbers per token compare only with models of the same tokenizer, under the same protocol.",
        "* Biases and risks of the source model remain; compression may change rare behaviour more than the mean.",
        f"* {len(report.kept)} tensors stay in their source precision; `report.json` says which and why.",
        f"* {licensed}",
    ]
    return "## Limitations\n\n" + "\n".join(lines)
