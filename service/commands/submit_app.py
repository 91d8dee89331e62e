"""`srr submit-evaluation`: jobs of other kinds than a compression, on a running service."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.keys_app import JsonOption
from service.commands.options import TokenOption

URL = typer.Option("--url", envvar="SRR_URL", help="Address of the service.")
KEY = typer.Option("--api-key", envvar="SRR_API_KEY", help="API key of the service.", show_default=False)
DEFAULT_URL = "http://127.0.0.1:8000"
TagsOption = Annotated[
    list[str], typer.Option("--tag", help="A word to find the job by; may be repeated.", metavar="TAG")
]
PrivateOption = Annotated[
    bool | None, typer.Option("--private/--public", help="Who may see the result; if not given, as the source.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Run even when a job did or does the same.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")]


def submit_evaluation(
    model: Annotated[str, typer.Argument(help="A model or an artifact on the Hub.", metavar="ORG/MODEL")],
    reference: Annotated[
        str | None, typer.Option("--source", help="What it was made from, to compare with.", metavar="ORG/MODEL")
    ] = None,
    evaluators: Annotated[
        str, typer.Option(help="Kinds of measures, with commas; what suits the model if none.", metavar="KIND,...")
    ] = "",
    assignments: Annotated[
        list[str], typer.Option("--set", help="A field of an evaluator; may be repeated.", metavar="harness.limit=100")
    ] = [],  # noqa: B006  # Typer copies it
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text to measure on.", metavar="FILE", exists=True, dir_okay=False)
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="glue, sentence-similarity: .tsv or .jsonl.", metavar="FILE", exists=True, dir_okay=False),
    ] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    source_revision: Annotated[str, typer.Option(help="The same of the source.")] = "main",
    destination: Annotated[
        str | None, typer.Option("--destination", "-d", help="Where to publish the report.", metavar="ORG/NAME")
    ] = None,
    tags: TagsOption = [],  # noqa: B006  # Typer copies it
    hub_token: TokenOption = None,
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    private: PrivateOption = None,
    force: ForceOption = False,
    wait: WaitOption = False,
    json: JsonOption = False,
) -> None:
    """Let a running service measure a model, an artifact, or one against the other."""
    from service.client import Client
    from service.commands import remote
    from service.commands.report_text import print_measurements
    from srr_core.recipe.evaluations import parse_evaluations

    kinds = [word.strip() for word in evaluators.split(",") if word.strip()]
    specs = parse_evaluations(kinds, assignments)
    with Client(url, api_key=api_key) as client:
        job = client.evaluate(
            model,
            revision=revision,
            reference=reference,
            reference_revision=source_revision,
            evaluators=[spec.model_dump(mode="json") for spec in specs],
            text=remote.read_text(text),
            pairs=remote.read_text(pairs),
            destination=destination,
            private=private,
            tags=tuple(tags),
            force=force,
            hub_token=hub_token,
        )
        remote.finish(
            client,
            job,
            wait=wait,
            as_json=json,
            show=lambda done: print_measurements(client.evaluation(done.id).measurements),
        )
