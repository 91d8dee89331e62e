"""What reports of fine-tunings say, for every edge that shows them."""

from collections.abc import Mapping

from srr_core.recipe.tuning import ArtifactStart, RecipeStart, TuningSpec
from srr_core.tuners.report import CellReport, TuningReport

_STARTS = {
    "lora": "the 16-bit model with a fresh adapter",
    "artifact": "an artifact, whose own L·R goes on learning",
}


def start_words(spec: TuningSpec) -> str:
    """Return where a training begins, in words."""
    start = spec.start
    if isinstance(start, ArtifactStart) and start.checkpoint is not None:
        return f"an artifact, from its checkpoint of step {start.checkpoint}"
    if not isinstance(start, RecipeStart):
        return _STARTS[start.kind]
    recipe = start.recipe
    return f"{recipe.name} on {recipe.quantizer.kind}, {recipe.quantizer.bits_per_weight:.2f} bits per weight in Q"


def chosen_cell(report: TuningReport) -> CellReport:
    """Return the training whose best checkpoint was published."""
    return next(cell for cell in report.cells if (cell.learning_rate, cell.seed) == report.chosen)


def evaluation_at(report: TuningReport, step: int) -> Mapping[str, float]:
    """Return the scores of the published training after a number of steps; none where it was not evaluated there."""
    return next((row.scores for row in chosen_cell(report).evaluations if row.step == step), {})
