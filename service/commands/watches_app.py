"""The words of `srr watch`. Like the rest of the command line, it imports what a command needs when it runs."""

from typing import Annotated

import typer

from service.commands.keys_app import JsonOption

watches_app = typer.Typer(help="Look after watches on the Hub.", no_args_is_help=True, rich_markup_mode=None)


@watches_app.command("sync")
def sync_watches(
    base_url: Annotated[str, typer.Option(help="Where the Hub reaches this service, https.", envvar="SRR_PUBLIC_URL")],
    hub_token: Annotated[
        str, typer.Option("--hub-token", envvar="SRR_HUB_TOKEN", help="Token with the right to manage webhooks.")
    ],
    *,
    json: JsonOption = False,
) -> None:
    """Create and repair the webhooks on the Hub for every watch."""
    from service.commands import watches

    watches.sync(base_url=base_url, hub_token=hub_token, as_json=json)
