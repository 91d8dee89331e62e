"""README.md beside a published evaluation.json, from the report. Pure: the same report, the same card."""

from huggingface_hub import EvalResult, ModelCardData

from service.hub.model import ResolvedModel
from srr_core.evaluation_report import EvaluatedModel, EvaluationReport
from srr_core.report import Measurement
from srr_core.telling.markdown import cell, code, table
from worker.card import CARD_TAG


def evaluation_card(report: EvaluationReport, *, repo_id: str, model: ResolvedModel) -> str:
    """Return README.md of a repository that holds measurements: metadata block and text.

    Args:
        model: The model that was measured; its licence and languages are copied.
    """
    sections = (_title(report, repo_id), _results(report), _protocols(report), _provenance(report))
    return f"---\n{_metadata(report, repo_id, model)}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _metadata(report: EvaluationReport, repo_id: str, model: ResolvedModel) -> str:
    data = ModelCardData(
        base_model=model.model_id,
        license=model.license,
        license_name=model.license_name,
        license_link=model.license_link,
        language=list(model.languages) or None,
        tags=[CARD_TAG, "evaluation"],
        model_name=repo_id,
        eval_results=[_eval_result(row) for row in report.measurements] or None,
    )
    return data.to_yaml().strip()


def _eval_result(row: Measurement) -> EvalResult:
    text = f"{row.tokens} tokens, token ids sha256 {row.text.token_sha256[:12]}" if row.text is not None else row.metric
    return EvalResult(
        task_type="text-generation",
        dataset_type="text",
        dataset_name=text,
        metric_type=row.evaluator,
        metric_name=row.metric,
        metric_value=round(row.compressed, 4),
    )


def _title(report: EvaluationReport, repo_id: str) -> str:
    against = "" if report.source is None else f", compared with {_named(report.source)}"
    name = repo_id.split("/", maxsplit=1)[1]
    return f"# {name}\n\nMeasurements of {_named(report.model)}{against}. `evaluation.json` holds all of them."


def _named(model: EvaluatedModel) -> str:
    return code(model.id) + (f" at commit {code(model.sha[:12])}" if model.sha else "")


def _results(report: EvaluationReport) -> str:
    header = ("", *(() if report.source is None else ("compared with",)), "this model", "better", "difference or error")
    rows = [
        (
            cell(row.title),
            *(() if report.source is None else ("–" if row.source is None else row.number(row.source),)),
            row.number(row.compressed),
            row.direction,
            cell(row.note()) or "–",
        )
        for row in report.measurements
    ]
    return "## Results\n\n" + table(header, rows)


def _protocols(report: EvaluationReport) -> str:
    return "## Protocols\n\n" + "\n".join(f"* {code(row.metric)}: {cell(row.protocol)}" for row in report.measurements)


def _provenance(report: EvaluationReport) -> str:
    environment = report.environment
    versions = cell(", ".join(f"{name} {version}" for name, version in sorted(environment.versions.items())))
    lines = (
        f"* Measured by srr_core {cell(environment.core_version)} on {cell(environment.device)} with {versions}",
        *(f"* Dataset {code(name)} at commit {code(sha)}" for name, sha in sorted(report.datasets.items())),
        *(f"* Noted: {cell(note)}" for note in report.notes),
    )
    return "## Provenance\n\n" + "\n".join(lines)
