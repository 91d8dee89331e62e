"""The report of a fine-tuning in words and tables, for people who read Markdown."""

from service.jobs.tuned import chosen_cell, start_words
from service.platform.markdown import cell, table
from srr_core.tuners.report import TuningReport


def tuning_markdown(report: TuningReport) -> str:
    """Return the report as Markdown."""
    sections = (_summary(report), _scores(report), _curve(report), _rates(report), _data(report), _notes(report))
    return "\n\n".join(section for section in sections if section) + "\n"


def _summary(report: TuningReport) -> str:
    rate, seed = report.chosen
    rows = [
        ("Source", f"{cell(report.source.id)} at {cell(report.source.sha or 'no commit, a local folder')}"),
        ("Start", cell(start_words(report.spec))),
        ("Adapter", f"rank {report.start.rank}, {report.start.trained_parameters:,} parameters"),
        ("Base", f"unchanged, SHA-256 {report.start.base_sha256[:12]}"),
        ("Published", f"step {chosen_cell(report).best_step}, learning rate {rate:g}, seed {seed}"),
        ("Computed on", f"{cell(report.environment.device)} in {sum(report.seconds.values()):.1f} s"),
    ]
    return f"# {cell(report.source.id)}, fine-tuned\n\n" + table(("", ""), rows)


def _scores(report: TuningReport) -> str:
    rows = [
        (cell(name), f"{report.start_scores[name]:.4f}" if name in report.start_scores else "–", f"{value:.4f}")
        for name, value in report.scores.items()
    ]
    text = "## On the validation examples\n\n" + table(("Score", "Before", "After"), rows)
    if report.neutral is not None:
        neutral = report.neutral
        text += (
            f"\n\nOn a neutral text the model moved {neutral.divergence:.4f} nats per token away from its start; its "
            f"loss there went from {neutral.loss_before:.4f} to {neutral.loss_after:.4f}."
        )
    return text


def _curve(report: TuningReport) -> str:
    chosen = chosen_cell(report)
    losses = {row.step: row.loss for row in chosen.rows}
    rows = [
        (str(row.step), f"{losses[row.step]:.4f}" if row.step in losses else "–", f"{row.scores[report.metric]:.4f}")
        for row in chosen.evaluations
        if report.metric in row.scores
    ]
    return "## Curve\n\n" + table(("Step", "Training loss", f"Validation {cell(report.metric)}"), rows)


def _rates(report: TuningReport) -> str:
    if len(report.rates) < 2:
        return ""
    rows = [
        (
            f"{rate.learning_rate:g}",
            "diverged" if rate.mean is None else f"{rate.mean:.4f}",
            "–" if rate.deviation is None else f"{rate.deviation:.4f}",
            str(rate.seeds),
        )
        for rate in report.rates
    ]
    header = ("Learning rate", f"Mean best {cell(report.metric)}", "Standard deviation", "Seeds")
    return "## Learning rates\n\n" + table(header, rows) + "\n\nChosen by these means, on the validation examples."


def _data(report: TuningReport) -> str:
    parts = (report.data.training, report.data.validation)
    rows = [
        ("Rows", *(f"{part.rows:,}" for part in parts)),
        ("Examples", *(f"{part.examples:,}" for part in parts)),
        ("Tokens", *(f"{part.tokens:,}" for part in parts)),
        ("Tokens that are learned", *(f"{part.trained_tokens:,}" for part in parts)),
    ]
    return "## Data\n\n" + table(("", "Training", "Validation"), rows)


def _notes(report: TuningReport) -> str:
    notes = (*report.data.notes, *report.notes)
    return "## Notes\n\n" + "\n".join(f"- {cell(note)}" for note in notes) if notes else ""
