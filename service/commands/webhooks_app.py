"""The words of `srr webhook`. Like the rest of the command line, it imports what a command needs when it runs."""

from typing import Annotated, Any

import typer

from service.commands.keys_app import JsonOption
from service.commands.submit_app import DEFAULT_URL, KEY, URL

webhooks_app = typer.Typer(
    help="Send the outcome of jobs to an address of yours.", no_args_is_help=True, rich_markup_mode=None
)
WebhookArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The id of a webhook.")]


@webhooks_app.command("add")
def add_webhook(
    address: Annotated[str, typer.Argument(metavar="URL", help="https://... or mailto:name@example.org.")],
    types: Annotated[
        list[str], typer.Option("--event", help="Which events to send; may be repeated.", metavar="TYPE")
    ] = [],  # noqa: B006  # Typer copies it
    form: Annotated[str, typer.Option(help="standard, slack or mail.")] = "standard",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Make a webhook and print its secret, this once."""
    from service.client import Client
    from service.commands import watches_remote

    rules: dict[str, Any] = {"url": address, "form": form, "description": description}
    with Client(url, api_key=api_key) as client:
        watches_remote.add_endpoint(client, rules | ({"types": types} if types else {}), as_json=json)


@webhooks_app.command("list")
def list_webhooks(
    url: Annotated[str, URL] = DEFAULT_URL, api_key: Annotated[str | None, KEY] = None, *, json: JsonOption = False
) -> None:
    """Show your webhooks."""
    from service.client import Client
    from service.commands import watches_remote

    with Client(url, api_key=api_key) as client:
        watches_remote.list_endpoints(client, as_json=json)


@webhooks_app.command("test")
def try_webhook(
    webhook: WebhookArgument,
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Send a message that only tests a webhook; its page shows what came back."""
    from service.client import Client
    from service.commands import watches_remote

    with Client(url, api_key=api_key) as client:
        watches_remote.try_endpoint(client, webhook, as_json=json)


@webhooks_app.command("remove")
def remove_webhook(
    webhook: WebhookArgument,
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
) -> None:
    """End a webhook and its log."""
    from service.client import Client
    from service.commands import watches_remote

    with Client(url, api_key=api_key) as client:
        watches_remote.remove_endpoint(client, webhook)
