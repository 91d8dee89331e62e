"""`srr submit-conversion`: an artifact of a hub in another format, on a running service."""

from typing import Annotated

import typer

from service.commands.keys_app import JsonOption
from service.commands.options import TokenOption
from service.commands.output import EXIT_BAD_INPUT, CommandError
from service.commands.submit_app import (
    DEFAULT_URL,
    KEY,
    URL,
    ForceOption,
    PrivateOption,
    TagsOption,
    WaitOption,
)


def submit_conversion(
    model: Annotated[str, typer.Argument(help="An artifact on the Hub.", metavar="ORG/MODEL")],
    to: Annotated[str, typer.Option(help="gguf, gptq or merged.", metavar="FORMAT")],
    destination: Annotated[str, typer.Option("--destination", "-d", help="Where to publish.", metavar="ORG/NAME")],
    assignments: Annotated[
        list[str], typer.Option("--set", help="A field of the format; may be repeated.", metavar="merged=q8_0")
    ] = [],  # noqa: B006  # Typer copies it
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    tags: TagsOption = [],  # noqa: B006  # Typer copies it
    hub_token: TokenOption = None,
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    acknowledge_license: Annotated[
        bool, typer.Option("--acknowledge-license", help="You have read an unclear licence.")
    ] = False,
    private: PrivateOption = None,
    force: ForceOption = False,
    wait: WaitOption = False,
    json: JsonOption = False,
) -> None:
    """Let a running service convert an artifact; `srr export` does it here, to a folder."""
    from service.client import Client
    from service.commands import remote
    from service.commands.report_text import print_any_report
    from srr_core.recipe import parse_assignments
    from srr_core.recipe.exporters import CONVERSION_FORMATS

    if to not in CONVERSION_FORMATS:
        known = ", ".join(CONVERSION_FORMATS)
        raise CommandError(f"--to {to!r} is no format of a conversion; choose one of {known}", exit_code=EXIT_BAD_INPUT)
    with Client(url, api_key=api_key) as client:
        job = client.convert(
            model,
            target={"kind": to, **parse_assignments(assignments)},
            destination=destination,
            revision=revision,
            private=private,
            acknowledge_license=acknowledge_license,
            tags=tuple(tags),
            force=force,
            hub_token=hub_token,
        )
        remote.finish(
            client, job, wait=wait, as_json=json, show=lambda done: print_any_report(client.conversion(done.id))
        )
