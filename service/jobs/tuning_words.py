"""The report of a fine-tuning as a document."""

from service.jobs.tuned import chosen_cell, start_words
from srr_core.telling.document import Block, Bullets, Document, Grid, Section, Words, filled
from srr_core.tuners.report import TuningReport


def tuning_document(report: TuningReport) -> Document:
    """Return what a fine-tuning says."""
    notes = (*report.data.notes, *report.notes)
    return Document(
        f"{report.source.id}, fine-tuned",
        (_summary(report),),
        filled(
            (
                _scores(report),
                _curve(report),
                _rates(report),
                _data(report),
                Section("Notes", (Bullets(notes),)) if notes else None,
            )
        ),
    )


def score_rows(report: TuningReport) -> tuple[tuple[str, str, str], ...]:
    """Return every score on the validation examples: its name, that of the start, that of what was published."""
    return tuple(
        (name, f"{report.start_scores[name]:.4f}" if name in report.start_scores else "–", f"{value:.4f}")
        for name, value in report.scores.items()
    )


def choice_words(report: TuningReport) -> str:
    """Return which of the trainings, and which of its steps, is the result."""
    rate, seed = report.chosen
    return f"step {chosen_cell(report).best_step}, learning rate {rate:g}, seed {seed}"


def drift_words(report: TuningReport) -> str:
    """Return how far the model moved on the neutral text; empty where there was none."""
    neutral = report.neutral
    if neutral is None:
        return ""
    return (
        f"On a neutral text the model moved {neutral.divergence:.4f} nats per token away from its start; its "
        f"loss there went from {neutral.loss_before:.4f} to {neutral.loss_after:.4f}."
    )


def _summary(report: TuningReport) -> Grid:
    rows = (
        ("Source", f"{report.source.id} at {report.source.sha or 'no commit, a local folder'}"),
        ("Start", start_words(report.spec)),
        ("Adapter", f"rank {report.start.rank}, {report.start.trained_parameters:,} parameters"),
        ("Base", f"unchanged, SHA-256 {report.start.base_sha256[:12]}"),
        ("Published", choice_words(report)),
        ("Computed on", f"{report.environment.device} in {sum(report.seconds.values()):.1f} s"),
    )
    return Grid(("", ""), rows)


def _scores(report: TuningReport) -> Section:
    blocks: list[Block] = [Grid(("Score", "Before", "After"), score_rows(report))]
    if report.neutral is not None:
        blocks.append(Words(drift_words(report)))
    return Section("On the validation examples", tuple(blocks))


def _curve(report: TuningReport) -> Section:
    chosen = chosen_cell(report)
    losses = {row.step: row.loss for row in chosen.rows}
    rows = tuple(
        (str(row.step), f"{losses[row.step]:.4f}" if row.step in losses else "–", f"{row.scores[report.metric]:.4f}")
        for row in chosen.evaluations
        if report.metric in row.scores
    )
    return Section("Curve", (Grid(("Step", "Training loss", f"Validation {report.metric}"), rows),))


def _rates(report: TuningReport) -> Section | None:
    if len(report.rates) < 2:
        return None
    rows = tuple(
        (
            f"{rate.learning_rate:g}",
            "diverged" if rate.mean is None else f"{rate.mean:.4f}",
            "–" if rate.deviation is None else f"{rate.deviation:.4f}",
            str(rate.seeds),
        )
        for rate in report.rates
    )
    header = ("Learning rate", f"Mean best {report.metric}", "Standard deviation", "Seeds")
    return Section("Learning rates", (Grid(header, rows), Words("Chosen by these means, on the validation examples.")))


def _data(report: TuningReport) -> Section:
    parts = (report.data.training, report.data.validation)
    rows = (
        ("Rows", *(f"{part.rows:,}" for part in parts)),
        ("Examples", *(f"{part.examples:,}" for part in parts)),
        ("Tokens", *(f"{part.tokens:,}" for part in parts)),
        ("Tokens that are learned", *(f"{part.trained_tokens:,}" for part in parts)),
    )
    return Section("Data", (Grid(("", "Training", "Validation"), rows),))
