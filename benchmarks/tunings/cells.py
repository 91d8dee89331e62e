"""One cell of a comparison: a start, a learning rate and a seed, kept in one line as soon as it has ended."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from srr_core.errors import NumericalError
from srr_core.pipeline.compress import compress
from srr_core.pipeline.tuning_cells import BaseFolder, TuningCell, prepare_base
from srr_core.pipeline.tuning_plan import TuningPlan, plan_tuning
from srr_core.recipe.tuning import RecipeStart, TuningSpec
from srr_core.recipe.tuning_tasks import metric_of


@dataclass(frozen=True)
class Material:
    """What every cell of a comparison is made from."""

    model: Path
    data: Path
    validation: Path | None
    calibration: Path
    neutral: Path | None
    work: Path
    """Folder for compressed models and unfinished trainings; the same one goes on where it was left."""


@dataclass(frozen=True)
class CellResult:
    """What one training did; scores by the step they were measured at."""

    start: str
    bits: float
    rank: int
    learning_rate: float
    seed: int
    digest: str
    """Of the specification: what was measured with other settings is another cell."""
    metric: str
    is_higher_better: bool
    steps: int
    scores: dict[int, float]
    """Empty where it diverged."""
    drift: float | None
    seconds: float

    @property
    def best(self) -> float | None:
        """The best score after a step, as the best checkpoint is chosen."""
        later = [score for step, score in self.scores.items() if step]
        return (max if self.is_higher_better else min)(later) if later else None

    @property
    def quarter(self) -> float | None:
        """The score at a quarter of the steps, where one was measured there."""
        return self.scores.get(self.steps // 4)


class Store:
    """The finished cells, a line of JSON each; a line that a crash cut short is no cell."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> list[CellResult]:
        """Return what has ended so far."""
        lines = self._file.read_text("utf-8").splitlines(keepends=True) if self._file.exists() else []
        return [_from_line(line) for line in lines if line.endswith("\n")]

    def add(self, cell: CellResult) -> None:
        """Keep one more."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cell)) + "\n")


def run_cell(name: str, bits: float, spec: TuningSpec, material: Material, store: Store) -> CellResult:
    """Train one cell, or return what is stored of it."""
    folder = material.work / f"{name}-{bits:g}-r{spec.rank}"
    plan = plan_tuning(
        material.model,
        material.data,
        spec,
        folder / "destination",
        validation_data=material.validation,
        calibration_text=material.calibration if isinstance(spec.start, RecipeStart) else None,
        neutral_text=material.neutral,
        model_id=material.model.name,
        revision=None,
        artifact_id=None,
        device="auto",
    )
    digest = plan.spec.digest()
    known = next((cell for cell in store.read() if cell.digest == digest), None)
    if known is not None:
        return known
    base = prepare_base(plan, _compressed(plan, folder), folder)
    work = folder / digest[:12]
    began = time.monotonic()
    result = _trained(name, bits, plan, base, work, began)
    store.add(result)
    shutil.rmtree(work)
    return result


def _compressed(plan: TuningPlan, folder: Path) -> Path:
    start, compressed = plan.spec.start, folder / "compressed"
    if not isinstance(start, RecipeStart):
        folder.mkdir(parents=True, exist_ok=True)
        return plan.source
    if not compressed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        recipe = start.recipe.model_copy(update={"evaluation": None})
        compress(
            plan.source,
            recipe,
            compressed,
            calibration_text=plan.calibration_text,  # type: ignore[arg-type]  # the plan refuses a start without it
            model_id=plan.model_id,
        )
    return compressed


def _trained(name: str, bits: float, plan: TuningPlan, base: BaseFolder, work: Path, began: float) -> CellResult:
    cell = TuningCell(plan, base, work, 0, check=lambda: None)
    metric, is_higher_better = metric_of(plan.dataset.task)
    drift = None
    try:
        report = cell.run()
        if report.best_step is not None:
            neutral = cell.drift(cell.checkpoint(report.best_step))
            drift = None if neutral is None else neutral.divergence
    except NumericalError:
        report = cell.diverged()
    ((rate, seed),) = plan.spec.cells()
    return CellResult(
        start=name,
        bits=bits,
        rank=base.facts.rank or plan.spec.rank,
        learning_rate=rate,
        seed=seed,
        digest=plan.spec.digest(),
        metric=metric,
        is_higher_better=is_higher_better,
        steps=plan.dataset.report.steps,
        scores={} if report.end == "diverged" else {row.step: row.scores[metric] for row in report.evaluations},
        drift=drift,
        seconds=round(time.monotonic() - began, 1),
    )


def _from_line(line: str) -> CellResult:
    data = json.loads(line)
    return CellResult(**{**data, "scores": {int(step): score for step, score in data["scores"].items()}})


def by_start(cells: Sequence[CellResult]) -> Iterator[tuple[tuple[float, int, str], list[CellResult]]]:
    """Yield the cells of each (bits, rank, start), in the order in which these were met."""
    groups: dict[tuple[float, int, str], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault((cell.bits, cell.rank, cell.start), []).append(cell)
    yield from groups.items()
