"""How many windows of its texts a job is calibrated and evaluated on."""

from typing import TypeVar

from service.jobs.work import CompressWork, JobText
from srr_core.recipe import CalibrationSpec, EvaluationSpec, Recipe

Windows = TypeVar("Windows", CalibrationSpec, EvaluationSpec)


def job_recipe(work: CompressWork) -> Recipe:
    """Return the recipe of a compression with the number and length of windows its texts ask for."""
    recipe = work.recipe
    changes: dict[str, object] = {}
    if work.calibration is not None:
        changes["calibration"] = _windows(recipe.calibration, work.calibration)
    if work.evaluation is not None:
        changes["evaluation"] = _windows(recipe.evaluation or EvaluationSpec(), work.evaluation)
    return recipe.model_copy(update=changes)


def _windows(spec: Windows, text: JobText) -> Windows:
    wanted = {"num_sequences": text.num_sequences, "sequence_length": text.sequence_length}
    return spec.model_copy(update={name: value for name, value in wanted.items() if value is not None})
