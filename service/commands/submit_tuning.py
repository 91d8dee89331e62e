"""`srr submit-finetuning`: a fine-tuning on a running service."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.finetune_app import (
    CheckOption,
    FieldOption,
    NeutralOption,
    SpecOption,
    StartOption,
    TaskOption,
    chosen_tuning,
)
from service.commands.keys_app import JsonOption
from service.commands.options import CalibrationOption, SeedOption, TokenOption
from service.commands.output import EXIT_BAD_INPUT, CommandError, print_json
from service.commands.submit_app import DEFAULT_URL, KEY, URL, ForceOption, PrivateOption, TagsOption, WaitOption

_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "text"}


def submit_finetuning(
    model: Annotated[str, typer.Argument(help="A model or an artifact on the Hub.", metavar="ORG/MODEL")],
    data: Annotated[
        str,
        typer.Argument(
            help="A file (JSONL, CSV, TSV, text), or one of a dataset on the Hub: hub:ORG/DATASET@COMMIT/PATH.",
            metavar="DATA",
        ),
    ],
    destination: Annotated[str, typer.Argument(help="Where to publish.", metavar="ORG/NAME")],
    start: StartOption = None,
    task: TaskOption = None,
    rank: Annotated[int | None, typer.Option("--rank", help="Of the adapter.", min=1)] = None,
    assignments: FieldOption = [],  # noqa: B006  # Typer copies it
    spec: SpecOption = None,
    validation_data: Annotated[
        Path | None,
        typer.Option("--validation-data", help="Rows to judge by; else a share of DATA.", exists=True, dir_okay=False),
    ] = None,
    calibration_text: CalibrationOption = None,
    neutral_text: NeutralOption = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    seed: SeedOption = None,
    tags: TagsOption = [],  # noqa: B006  # Typer copies it
    hub_token: TokenOption = None,
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    acknowledge_license: Annotated[
        bool, typer.Option("--acknowledge-license", help="You have read an unclear licence, and it allows this.")
    ] = False,
    private: PrivateOption = None,
    force: ForceOption = False,
    wait: WaitOption = False,
    check: CheckOption = False,
    json: JsonOption = False,
) -> None:
    """Let a running service fine-tune a model; an artifact goes on learning with --start artifact."""
    from service.client import Client
    from service.commands import remote
    from service.commands.report_text import print_scores

    tuning = chosen_tuning(spec, start=start, task=task, rank=rank, assignments=assignments, seed=seed)
    with Client(url, api_key=api_key) as client:
        if check:
            body = {
                "kind": "finetune",
                "source": {"model_id": model, "revision": revision},
                "destination": {"repo_id": destination, "private": private},
                "data": _data(data),
                "tuning": tuning.model_dump(mode="json"),
                "validation": None if validation_data is None else _rows(validation_data),
                "acknowledge_license": acknowledge_license,
                "hub_token": hub_token,
            }
            remote.print_check(client.check(body), as_json=json)
            return
        job = client.finetune(
            model,
            destination=destination,
            data=_data(data),
            tuning=tuning.model_dump(mode="json"),
            validation=None if validation_data is None else _rows(validation_data),
            revision=revision,
            private=private,
            calibration=remote.read_text(calibration_text),
            neutral=remote.read_text(neutral_text),
            acknowledge_license=acknowledge_license,
            tags=tuple(tags),
            force=force,
            hub_token=hub_token,
        )
        remote.finish(client, job, wait=wait, as_json=json, show=lambda done: print_scores(client.tuning(done.id)))


def publish_checkpoint(
    job: Annotated[str, typer.Argument(help="The id of a fine-tuning that has ended.", metavar="JOB")],
    step: Annotated[int, typer.Argument(help="Steps of a checkpoint that it keeps.", metavar="STEP", min=1)],
    destination: Annotated[str, typer.Argument(help="Where to publish.", metavar="ORG/NAME")],
    hub_token: TokenOption = None,
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    private: PrivateOption = None,
    wait: WaitOption = False,
    json: JsonOption = False,
) -> None:
    """Publish a checkpoint of a fine-tuning by itself, measured on the data of the job."""
    from service.client import Client
    from service.commands import remote
    from service.commands.report_text import print_scores

    with Client(url, api_key=api_key) as client:
        made = client.publish_checkpoint(job, step, destination=destination, private=private, hub_token=hub_token)
        remote.finish(client, made, wait=wait, as_json=json, show=lambda done: print_scores(client.tuning(done.id)))


def compare_finetunings(
    jobs: Annotated[list[str], typer.Argument(help="Ids of fine-tunings.", metavar="JOB ...")],
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Put fine-tunings of a service beside each other: start, learning rate, best score, steps."""
    from service.client import Client
    from service.commands import remote

    with Client(url, api_key=api_key) as client:
        runs = client.compare_finetunings(jobs)
    if json:
        print_json({"runs": [run.model_dump(mode="json") for run in runs]})
    else:
        remote.print_runs(runs)


def _data(written: str) -> dict[str, object]:
    if not written.startswith("hub:"):
        return _rows(Path(written))
    dataset, _, place = written.removeprefix("hub:").partition("@")
    revision, _, path = place.partition("/")
    if not (dataset and revision and path):
        raise CommandError(
            f"{written}: write a file of a dataset as hub:ORG/DATASET@COMMIT/PATH", exit_code=EXIT_BAD_INPUT
        )
    return {"dataset": dataset, "revision": revision, "path": path}


def _rows(file: Path) -> dict[str, object]:
    from service.commands import remote

    if file.suffix not in _FORMATS:
        raise CommandError(
            f"{file}: a job takes {', '.join(_FORMATS)}; put other files into a dataset of the Hub",
            exit_code=EXIT_BAD_INPUT,
        )
    return {"text": remote.read_text(file), "format": _FORMATS[file.suffix]}
