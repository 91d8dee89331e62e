"""`srr submit`, `status`, `cancel`, `retry`, `logs`: the commands that talk to a running service."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from service.api.schemas import EventData, JobResource
from service.client import Client
from service.commands.output import EXIT_BAD_INPUT, CommandError, duration, print_json, print_line, print_table
from service.commands.progress import ProgressBar, training_text
from service.commands.report_text import print_report
from service.jobs.event_words import STATE_LABELS, event_words
from service.jobs.numbers import NO_NUMBERS, number_words
from service.jobs.schema import TERMINAL_STATES, JobState
from service.jobs.tuned_runs import TunedRun
from service.submissions.schema import Validation
from srr_core.recipe import PRESETS, Recipe
from srr_core.recipe.byte_sizes import size_words
from srr_core.report import Report

_LATEST = 20
_NUMBERS = tuple(number_words(NO_NUMBERS))


def submit(
    client: Client,
    model_id: str,
    *,
    destination: str,
    recipe: Recipe,
    revision: str,
    calibration_text: Path | None,
    evaluation_text: Path | None,
    private: bool | None,
    tags: Sequence[str],
    force: bool,
    acknowledge_license: bool,
    idempotency_key: str | None,
    hub_token: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Submit a job, and with `wait` stay until it has ended."""
    is_named = PRESETS.get(recipe.name) == recipe
    job = client.submit(
        model_id,
        destination=destination,
        recipe=recipe.name if is_named else recipe.model_dump(mode="json"),
        revision=revision,
        calibration=_text(calibration_text),
        evaluation=_text(evaluation_text),
        private=private,
        tags=tuple(tags),
        force=force,
        acknowledge_license=acknowledge_license,
        idempotency_key=idempotency_key,
        hub_token=hub_token,
    )
    finish(client, job, wait=wait, as_json=as_json, show=lambda done: print_summary(done, client.report(done.id)))


def finish(client: Client, job: JobResource, *, wait: bool, as_json: bool, show: Callable[[JobResource], None]) -> None:
    """Print a job that was just submitted: its id, or with `wait` what came of it.

    Args:
        show: Prints the result of a job that has succeeded.

    Raises:
        JobFailedError: `wait` was asked for, and it failed or was canceled.
    """
    if wait:
        job = follow(client, job)
    if as_json:
        print_json(job.model_dump(mode="json"))
    elif wait:
        show(job)
    else:
        print_line(job.id)


def follow(client: Client, job: JobResource) -> JobResource:
    """Show the progress of a job on standard error until it has succeeded.

    Raises:
        JobFailedError: it failed or was canceled.
    """
    with ProgressBar(f"{job.source.model_id} → {_destination(job)}") as progress:
        for event in client.events(job.id):
            progress.show(event.kind, event.data)
    return client.wait(job.id)


def status(client: Client, job_id: str | None, *, as_json: bool) -> None:
    """Print one job, or the latest ones."""
    if job_id is not None:
        job = client.job(job_id)
        if as_json:
            print_json(job.model_dump(mode="json"))
        else:
            print_job(job)
        return
    jobs = [job for job, _ in zip(client.jobs(), range(_LATEST), strict=False)]
    if as_json:
        print_json({"jobs": [job.model_dump(mode="json") for job in jobs]})
    else:
        print_table(_job_table(jobs))


def cancel(client: Client, job_id: str, *, as_json: bool) -> None:
    """Ask for the end of a job."""
    _print_state(client.cancel(job_id), as_json=as_json)


def retry(client: Client, job_id: str, *, hub_token: str | None, as_json: bool) -> None:
    """Queue a failed or canceled job again."""
    _print_state(client.retry(job_id, hub_token=hub_token), as_json=as_json)


def logs(client: Client, job_id: str, *, follow: bool, as_json: bool) -> None:
    """Print the events of a job so far, or with `follow` until it has ended."""
    for event in client.events(job_id) if follow else client.logs(job_id):
        if as_json:
            print_line(event.model_dump_json())
        elif text := _log_text(event):
            print_line(f"{event.created_at:%H:%M:%S} {text}")


def print_job(job: JobResource) -> None:
    """Print what there is to know about a job, one fact a line."""
    facts = {
        "job": job.id,
        "state": STATE_LABELS[job.state] + (f", {job.stage}" if job.stage and job.state not in TERMINAL_STATES else ""),
        "progress": f"{job.progress:.0%}",
        "source": f"{job.source.model_id} at {job.source.sha or job.source.revision}",
        "kind": job.kind,
        "work": _work(job),
        "destination": _destination(job),
        "attempt": f"{job.attempt} of at most {job.max_attempts}",
    }
    if job.queue_position is not None:
        facts["queue"] = f"{job.queue_position} ahead"
    if job.same_destination:
        facts["also there"] = f"{', '.join(job.same_destination)}: what ends last lies on top"
    if job.result is not None:
        facts["commit"] = job.result.commit_url
        facts |= {name: words for name, words in number_words(job.result.numbers or NO_NUMBERS).items() if words}
    if job.failure is not None:
        facts["failure"] = f"{job.failure.message} ({job.failure.code})"
    for name, value in facts.items():
        print_line(f"{name + ':':<13}{value}")


def print_summary(job: JobResource, report: Report) -> None:
    """Print the numbers that matter of a finished job, and where the result is."""
    if job.result is not None:
        print_line(f"published   {job.result.repo_id}: {job.result.commit_url}")
    print_report(report)


def print_check(found: Validation, *, as_json: bool) -> None:
    """Print what would become of a fine-tuning. Raises CommandError where it would be refused."""
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif found.data is not None:
        print_line(f"rows        {found.data.rows:,}, {found.data.duplicates:,} repeated")
    training = found.training
    if training is not None and not as_json:
        steps = "not known before the worker has the rows" if training.steps is None else f"about {training.steps:,}"
        grid = "" if training.trainings == 1 else f" in each of {training.trainings} trainings"
        print_line(f"steps       {steps}{grid}")
        print_line(f"learning    {training.trained_parameters:,} parameters in {training.layers} layers")
        print_line(f"memory      about {size_words(training.memory_bytes)}, disk {size_words(training.scratch_bytes)}")
        if training.seconds is not None:
            basis = "earlier ones" if training.tokens_per_second is not None else "the speed of the fastest worker"
            print_line(f"time        about {duration(training.seconds)}, from {basis}")
    if found.problems:
        raise CommandError("; ".join(problem.message for problem in found.problems), exit_code=EXIT_BAD_INPUT)


def print_runs(runs: Sequence[TunedRun]) -> None:
    """Print fine-tunings as a table."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Job", "State", "Start", "Rank", "Rate", "Steps", "Metric", "Before", "Best", "Deviation"):
        table.add_column(heading, no_wrap=True)
    for run in runs:
        numbers = ("–" if value is None else f"{value:.4f}" for value in (run.before, run.best, run.deviation))
        rate = "–" if run.learning_rate is None else f"{run.learning_rate:g}"
        steps = f"{run.steps} of {run.planned}" if run.planned > run.steps else str(run.steps)
        row = (run.job_id, run.state, run.start, str(run.rank), rate, steps, run.metric, *numbers)
        table.add_row(*map(escape, row))
    print_table(table)


def _print_state(job: JobResource, *, as_json: bool) -> None:
    if as_json:
        print_json(job.model_dump(mode="json"))
    else:
        print_line(f"{job.id} {job.state}")


def _job_table(jobs: list[JobResource]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Job", "State", "Model", "Work", "Destination", *(name.capitalize() for name in _NUMBERS)):
        table.add_column(heading, no_wrap=True)
    for job in jobs:
        progress = f" {job.progress:.0%}" if job.state in (JobState.RUNNING, JobState.PUBLISHING) else ""
        names = (job.source.model_id, _work(job), _destination(job))
        numbers = number_words((job.result.numbers if job.result is not None else None) or NO_NUMBERS)
        table.add_row(job.id, f"{STATE_LABELS[job.state]}{progress}", *map(escape, names), *numbers.values())
    return table


def _work(job: JobResource) -> str:
    detail = job.work.detail if job.work is not None else ""
    return ", ".join(filter(None, (job.kind if job.recipe is None else job.recipe.name, detail)))


def _destination(job: JobResource) -> str:
    return "not published" if job.destination is None else job.destination.repo_id


def _log_text(event: EventData) -> str:
    words = event_words(event.kind, event.data)
    if words is not None:
        return words
    if event.kind == "layer":
        error = event.data.get("output_error")
        return f"{event.data.get('layer')}: output error {error:.4f}" if isinstance(error, float) else ""
    return training_text(event.kind, event.data)


def _text(path: Path | None) -> Mapping[str, Any] | None:
    text = read_text(path)
    return None if text is None else {"text": text}


def read_text(path: Path | None) -> str | None:
    """Return what a file holds. Raises CommandError."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", exit_code=EXIT_BAD_INPUT) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8 text", exit_code=EXIT_BAD_INPUT) from error
