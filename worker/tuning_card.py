"""The model card of a fine-tuning, from its report and its source. Pure: the same report, the same card."""

from collections.abc import Sequence

from huggingface_hub import ModelCardData

from service.hub.model import ResolvedModel
from srr_core.telling.markdown import cell, code, table
from srr_core.tuners.report import REPORT_NAME, CellReport, EvaluationRow, TuningReport
from worker.card import CARD_TAG, COMPRESSED_TENSORS

_CURVE_ROWS = 12
"""Rows of the curve that a card shows; the report holds every step."""
_STARTS = {
    "lora": "the 16-bit model with a fresh adapter",
    "artifact": "a published artifact, whose own L·R went on learning",
}


def tuning_card(report: TuningReport, *, repo_id: str, source: ResolvedModel, quant_method: str | None) -> str:
    """Return README.md of a fine-tuned model: metadata block and text.

    Args:
        quant_method: As in config.json, or None where nothing is quantized.
    """
    sections = (
        f"# {repo_id.split('/', maxsplit=1)[1]}\n\n{_summary(report, source)}",
        _results(report),
        _curve(report),
        _loading(report, repo_id, quant_method),
        _data(report),
        _provenance(report, source),
        _limitations(),
    )
    data = ModelCardData(
        base_model=source.model_id,
        base_model_relation="finetune",
        license=source.license,
        license_name=source.license_name,
        license_link=source.license_link,
        language=list(source.languages) or None,
        library_name="transformers",
        tags=[CARD_TAG, "fine-tuned", *(["lora"] if report.spec.result.kind == "adapter" else [])],
        model_name=repo_id,
    )
    return f"---\n{data.to_yaml().strip()}\n---\n\n" + "\n\n".join(sections) + "\n"


def start_name(report: TuningReport) -> str:
    """Return where a training began, in words."""
    start = report.spec.start
    if start.kind != "recipe":
        return _STARTS[start.kind]
    recipe = start.recipe
    return (
        f"{code(recipe.name)} on {recipe.quantizer.kind}, {recipe.quantizer.bits_per_weight:.2f} bits per weight in Q"
    )


def _summary(report: TuningReport, source: ResolvedModel) -> str:
    origin = f"[{source.model_id}]({source.url})" if source.url else f"`{source.model_id}`"
    return (
        f"{origin}, fine-tuned. It began at {start_name(report)}; an adapter of rank {report.start.rank} was trained "
        f"on the frozen base in float32. The base is unchanged: SHA-256 {code(report.start.base_sha256)}."
    )


def _results(report: TuningReport) -> str:
    rows = [
        (cell(name), f"{report.start_scores[name]:.4f}" if name in report.start_scores else "–", f"{value:.4f}")
        for name, value in report.scores.items()
    ]
    text = "## Results\n\n" + table(("on the validation examples", "before", "after"), rows)
    if len(report.rates) > 1:
        rates = [
            (
                f"{rate.learning_rate:g}",
                "diverged" if rate.mean is None else f"{rate.mean:.4f}",
                "–" if rate.deviation is None else f"{rate.deviation:.4f}",
                str(rate.seeds),
            )
            for rate in report.rates
        ]
        text += "\n\n" + table(
            ("learning rate", f"mean best {cell(report.metric)}", "standard deviation", "seeds"), rates
        )
        text += "\n\nThe learning rate was chosen by these means, on the validation examples."
    if report.neutral is not None:
        neutral = report.neutral
        text += (
            f"\n\nOn a neutral text the trained model is {neutral.divergence:.4f} nats per token away from where it "
            f"began (Kullback-Leibler), and its loss there went from {neutral.loss_before:.4f} to "
            f"{neutral.loss_after:.4f}."
        )
    return text


def _curve(report: TuningReport) -> str:
    chosen = _chosen(report)
    shown = _thinned(chosen.evaluations, _CURVE_ROWS)
    losses = {row.step: row.loss for row in chosen.rows}
    rows = [
        (str(row.step), f"{losses[row.step]:.4f}" if row.step in losses else "–", f"{row.scores[report.metric]:.4f}")
        for row in shown
    ]
    head = ("step", "training loss", f"validation {cell(report.metric)}")
    rate, seed = report.chosen
    return (
        f"## Curve\n\nLearning rate {rate:g}, seed {seed}; published is step {chosen.best_step}.\n\n{table(head, rows)}"
    )


def _loading(report: TuningReport, repo_id: str, quant_method: str | None) -> str:
    if quant_method not in {None, COMPRESSED_TENSORS}:
        return (
            "## How to load\n\nThis layout is read by the `srr` package only; transformers alone refuses it.\n\n"
            f'```python\nfrom srr_core.runtime import load\n\nmodel = load("{repo_id}")\n```'
        )
    kind = "AutoModelForSequenceClassification" if report.data.training.trained_tokens == 0 else "AutoModelForCausalLM"
    needs_peft = report.spec.result.kind != "merged"
    packages = '"transformers>=5"' + (' "compressed-tensors>=0.18"' if quant_method else "")
    packages += " peft" if needs_peft else ""
    text = (
        f"## How to load and serve\n\n```sh\npip install {packages}\n```\n\n```python\n"
        f"from transformers import {kind}, AutoTokenizer\n\n"
        f'model = {kind}.from_pretrained("{repo_id}")\ntokenizer = AutoTokenizer.from_pretrained("{repo_id}")\n```'
    )
    if report.kept:
        steps = ", ".join(map(str, report.kept))
        text += (
            f"\n\nFactors of other steps ({steps}) lie in `checkpoints/`; a fine-tuning goes on from one with "
            f"`srr finetune {repo_id} DATA DESTINATION --start artifact --set start.checkpoint={report.kept[0]}`."
        )
    if needs_peft:
        text += (
            "\n\n> **Install `peft`.** What was learned is a LoRA adapter in this repository; without `peft`, "
            "transformers loads the base alone, silently. Servers take base and adapter apart: "
            "`srr export --to adapter`."
        )
    return text


def _data(report: TuningReport) -> str:
    training, validation = report.data.training, report.data.validation
    rows = [
        ("rows", f"{training.rows:,}", f"{validation.rows:,}"),
        ("examples", f"{training.examples:,}", f"{validation.examples:,}"),
        ("tokens", f"{training.tokens:,}", f"{validation.tokens:,}"),
        ("tokens that are learned", f"{training.trained_tokens:,}", f"{validation.trained_tokens:,}"),
        ("cut to the window", str(training.truncated), str(validation.truncated)),
    ]
    digest = code(report.data.sha256.split()[0])
    sizes = table(("", "training", "validation"), rows)
    return f"## Data\n\nTask `{report.spec.task.kind}`, file SHA-256 {digest}.\n\n{sizes}"


def _provenance(report: TuningReport, source: ResolvedModel) -> str:
    environment = report.environment
    versions = cell(", ".join(f"{name} {version}" for name, version in sorted(environment.versions.items())))
    lines = (
        f"* Source: `{source.model_id}`" + (f" at commit `{source.sha}`" if source.sha else ", a folder"),
        f"* Made by srr_core {cell(environment.core_version)} on {cell(environment.device)} with {versions}",
        f"* `{REPORT_NAME}` holds the whole specification, every step and every evaluation.",
        *(f"* Noted: {cell(note)}" for note in report.notes),
    )
    return "## Provenance\n\n" + "\n".join(lines)


def _limitations() -> str:
    lines = [
        "* Scores are those of the validation examples the best step was chosen on, so they are a little too good.",
        "* Nothing was measured beyond them and, where given, one neutral text.",
        "* Biases of the source and of the data remain.",
    ]
    return "## Limitations\n\n" + "\n".join(lines)


def _chosen(report: TuningReport) -> CellReport:
    return next(one for one in report.cells if (one.learning_rate, one.seed) == report.chosen)


def _thinned(rows: Sequence[EvaluationRow], count: int) -> list[EvaluationRow]:
    """Return at most `count` rows, evenly, the first and the last among them."""
    if len(rows) <= count:
        return list(rows)
    places = sorted({round(index * (len(rows) - 1) / (count - 1)) for index in range(count)})
    return [rows[place] for place in places]
