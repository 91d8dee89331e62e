"""`srr evaluate`: a model or an artifact measured on this machine, against its source where that is named."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from examples import EVALUATION_TEXT
from service.commands.output import EXIT_BAD_INPUT, CommandError, print_json, print_line, print_table
from service.commands.progress import ProgressBar
from service.hub.client import HubClient
from service.hub.errors import HubUnavailableError
from srr_core.checkpoint.writer import write_json
from srr_core.evaluation_report import EvaluationReport
from srr_core.evaluators.dataset_folder import DatasetFolder
from srr_core.evaluators.subject import Files
from srr_core.pipeline.evaluate import EvaluationInputs, default_kinds, needed_datasets
from srr_core.pipeline.evaluate import evaluate as measure
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.evaluations import AnyEvaluationSpec, parse_evaluations
from srr_core.report import Measurement
from srr_core.types import Progress
from worker.commands import naming_both_places, quiet_libraries, stop_on_interrupt
from worker.dataset_hub import DatasetHub
from worker.download_meter import OnBytes
from worker.evaluated_model import fetch_evaluated

if TYPE_CHECKING:
    from srr_core.types import ShouldStop

_Name = tuple[str, str]
"""A folder or the id of a model, and its revision on the Hub."""


def evaluate(
    model: str | None,
    *,
    source: str | None,
    evaluators: str,
    suite: str | None,
    tasks: str,
    assignments: Sequence[str],
    text: Path | None,
    pairs: Path | None,
    task_folder: Path | None,
    revision: str,
    source_revision: str,
    data: Path | None,
    cache: Path,
    output: Path,
    device: str,
    hub_token: str | None,
    prefetch: bool,
    as_json: bool,
) -> None:
    """Fetch what is missing, measure, write evaluation.json and print a table."""
    quiet_libraries()
    cache = cache.expanduser()
    session = _Session(
        client=HubClient(),
        data=DatasetFolder(data or cache / "prefetched", cache / "datasets"),
        cache=cache,
        token=hub_token,
        files=Files(text=text, pages=text, pairs=pairs, task_folder=task_folder),
    )
    kinds, assigned = _named(evaluators, suite, tasks), _assigned(suite, tasks, assignments)
    if prefetch:
        session.prefetch(parse_evaluations(kinds or ["harness"], assigned))
        return
    if model is None:
        raise CommandError("name a model, or say --prefetch to fetch datasets only", exit_code=EXIT_BAD_INPUT)
    if not output.parent.is_dir():
        raise CommandError(f"--output {output}: there is no folder {output.parent}", exit_code=EXIT_BAD_INPUT)
    report = session.evaluate((model, revision), (source, source_revision) if source else None, kinds, assigned, device)
    write_json(output, report.model_dump(mode="json"))
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    _print(report)
    print_line(f"written     {output}")


@dataclass(frozen=True)
class _Session:
    """One call of the command: where things come from and where they are kept."""

    client: HubClient
    data: DatasetFolder
    cache: Path
    token: str | None
    files: Files

    def prefetch(self, specs: Sequence[AnyEvaluationSpec]) -> None:
        """Fill the data folder and print what lies there."""
        with stop_on_interrupt() as should_stop, ProgressBar("fetching datasets") as progress:
            self._fetch_datasets(specs, progress, should_stop)
        for dataset, pinned in sorted(self.data.lock().datasets.items()):
            print_line(f"{dataset}@{pinned.revision}")
        print_line(f"written     {self.data.root}")

    def evaluate(
        self, model: _Name, source: _Name | None, kinds: Sequence[str], assigned: Sequence[str], device: str
    ) -> EvaluationReport:
        """Fetch models and datasets where they are not here, and measure."""
        title = f"evaluating {model[0]}" + (f" against {source[0]}" if source else "")
        with stop_on_interrupt() as should_stop, ProgressBar(title) as progress:
            folder, sha = self._local(model, progress, should_stop)
            source_folder, source_sha = self._local(source, progress, should_stop) if source else (None, None)
            specs = parse_evaluations(kinds or default_kinds(folder, has_source=source is not None), assigned)
            self._fetch_datasets(specs, progress, should_stop)
            return measure(
                specs,
                EvaluationInputs(
                    model=folder,
                    source=source_folder,
                    # The bundled text for whoever brings none; its words are not those of the published tables.
                    files=replace(self.files, text=self.files.text or EVALUATION_TEXT),
                    datasets=self.data.root,
                    cache=self.data.cache,
                    source_results=self.cache / "sources",
                    model_id=model[0],
                    model_revision=sha,
                    source_id=source[0] if source else None,
                    source_revision=source_sha,
                ),
                device=device,
                on_progress=lambda step: _show(progress, step),
                should_stop=should_stop,
            )

    def _fetch_datasets(
        self, specs: Sequence[AnyEvaluationSpec], progress: ProgressBar, should_stop: "ShouldStop"
    ) -> None:
        needed = needed_datasets(specs, self.files)
        for kind, datasets in needed.items():
            progress.advance("datasets", 0.0)
            try:
                DatasetHub(self.client).prefetch(
                    datasets, self.data, token=self.token, on_progress=_bytes_of(progress), should_stop=should_stop
                )
            except HubUnavailableError as error:
                rest = [spec.kind for spec in specs if spec.kind not in needed]
                able = f"; without network these would run: {', '.join(rest)}" if rest else ""
                raise CommandError(
                    f"{kind} needs datasets that are not in {self.data.root}: {error}{able}. The suite quick "
                    "needs none, and --prefetch fills a folder where there is network"
                ) from error

    def _local(self, name: _Name, progress: ProgressBar, should_stop: "ShouldStop") -> tuple[Path, str | None]:
        model, revision = name
        if Path(model).is_dir():
            return Path(model), None
        if model.count("/") != 1 or model.startswith(("/", ".")):
            raise CommandError(f"{model} is neither a folder nor a model like org/name", exit_code=EXIT_BAD_INPUT)
        progress.advance("download", 0.0)
        with naming_both_places(model):
            return fetch_evaluated(
                self.client,
                model,
                revision,
                self.cache / "models",
                token=self.token,
                on_progress=_bytes_of(progress),
                should_stop=should_stop,
            )


def _named(evaluators: str, suite: str | None, tasks: str) -> list[str]:
    kinds = _words(evaluators)
    return [*kinds, "harness"] if (suite or tasks) and "harness" not in kinds else kinds


def _assigned(suite: str | None, tasks: str, assignments: Sequence[str]) -> list[str]:
    named = [f"harness.suite={suite}"] if suite else []
    return [*named, *([f"harness.tasks={json.dumps(_words(tasks))}"] if tasks else []), *assignments]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _bytes_of(progress: ProgressBar) -> OnBytes:
    return lambda done, total: progress.remark(f"{size_words(done)} of {size_words(total)}")


def _show(progress: ProgressBar, step: Progress) -> None:
    if step.layer is not None:
        progress.advance(step.layer, step.completed / step.total)


def _print(report: EvaluationReport) -> None:
    columns = ["evaluator", "measure", "value"]
    columns += ["source", "difference", "of the source"] if report.source is not None else []
    table = Table(*columns, title=f"{report.model.id}, {size_words(report.model.weight_bytes)} of weights")
    for row in report.measurements:
        error = row.standard_error if row.difference is None else row.value_error
        cells = [row.evaluator, row.metric, _with_error(row, row.compressed, error)]
        if report.source is not None:
            cells += ["" if row.source is None else _number(row, row.source), _difference(row), _share(row)]
        table.add_row(*cells)
    print_table(table)
    for note in report.notes:
        print_line(f"note        {note}")


def _share(row: Measurement) -> str:
    if row.recovery_percent is not None:
        return f"{row.recovery_percent:.1f} %"
    # Speed and memory lose nothing that could be recovered; how much of the source's they are is what is asked.
    return f"{100 * row.compressed / row.source:.0f} %" if row.evaluator == "speed-memory" and row.source else ""


def _difference(row: Measurement) -> str:
    if row.difference is None:
        return ""
    error = "" if row.standard_error is None else f" ± {row.standard_error:.4f}"
    return f"{row.difference:+.4f}{error} {row.difference_unit}".rstrip()


def _with_error(row: Measurement, value: float, error: float | None) -> str:
    return _number(row, value) + ("" if error is None else f" ± {_number(row, error)}")


def _number(row: Measurement, value: float) -> str:
    if row.unit == "bytes":
        return size_words(value)
    return f"{value:.1f}" if row.unit == "tokens/s" else f"{value:.4f}"
