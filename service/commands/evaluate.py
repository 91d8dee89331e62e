"""The words of `srr evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.keys_app import JsonOption
from service.commands.local import worker_command
from service.commands.options import Device
from service.commands.places import require_source

DEFAULT_CACHE = Path("~/.cache/srr")
DEFAULT_OUTPUT = Path("evaluation.json")


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="A model or an artifact: a folder, or its id on the Hub.", metavar="MODEL")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="What it was made from, to compare with: a folder or an id.", metavar="MODEL")
    ] = None,
    evaluators: Annotated[
        str,
        typer.Option(
            help="Kinds of measures, with commas; divergence and perplexity if none is named.", metavar="KIND,..."
        ),
    ] = "",
    suite: Annotated[str | None, typer.Option(help="harness: srr-5, qera-6, gsm8k or quick.", metavar="NAME")] = None,
    tasks: Annotated[str, typer.Option(help="harness: tasks of lm-eval, with commas.", metavar="TASK,...")] = "",
    assignments: Annotated[
        list[str], typer.Option("--set", help="A field of an evaluator; may be repeated.", metavar="harness.limit=100")
    ] = [],  # noqa: B006  # Typer copies it
    text: Annotated[
        Path | None,
        typer.Option(help="UTF-8 text, or .jsonl of raw pages.", metavar="FILE", exists=True, dir_okay=False),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="glue, sentence-similarity: .tsv or .jsonl.", metavar="FILE", exists=True, dir_okay=False),
    ] = None,
    task_folder: Annotated[
        Path | None,
        typer.Option(help="harness: a folder of further tasks.", metavar="DIR", exists=True, file_okay=False),
    ] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of a model on the Hub.")] = "main",
    source_revision: Annotated[str, typer.Option(help="The same of the source.")] = "main",
    data: Annotated[
        Path | None, typer.Option(help="Prefetched datasets; by default inside the cache.", metavar="DIR")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Kept between runs.", envvar="SRR_CACHE", metavar="DIR")] = DEFAULT_CACHE,
    output: Annotated[Path, typer.Option(help="The report to write.", metavar="FILE")] = DEFAULT_OUTPUT,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.AUTO,
    hub_token: Annotated[
        str | None,
        typer.Option("--hub-token", envvar="SRR_HUB_TOKEN", help="For private and gated ones.", show_default=False),
    ] = None,
    *,
    prefetch: Annotated[bool, typer.Option("--prefetch", help="Fetch the datasets that are needed, and end.")] = False,
    json: JsonOption = False,
) -> None:
    """Measure a model, an artifact, or one against the other."""
    for name in (model, source):
        if name is not None:
            require_source(name)
    command = worker_command("evaluate", "worker.evaluate_command")
    command(
        model,
        source=source,
        evaluators=evaluators,
        suite=suite,
        tasks=tasks,
        assignments=assignments,
        text=text,
        pairs=pairs,
        task_folder=task_folder,
        revision=revision,
        source_revision=source_revision,
        data=data,
        cache=cache,
        output=output,
        device=device,
        hub_token=hub_token,
        prefetch=prefetch,
        as_json=json,
    )
