"""The words of `srr keys`. Like the rest of the command line, it imports what a command needs when it runs."""

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

keys_app = typer.Typer(
    help="Make and revoke API keys, in the database that SERVICE_* names.", no_args_is_help=True, rich_markup_mode=None
)


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    owner: Annotated[str, typer.Option(help="Whose jobs it sees.")] = "admin",
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="A right, for instance jobs:read; may be repeated. None: all.")
    ] = None,
    days: Annotated[int | None, typer.Option(help="Days until it expires; 0: never.", min=0)] = 90,
    max_queued: Annotated[int | None, typer.Option(help="Jobs that wait at once; 100 if not given.", min=0)] = None,
    max_running: Annotated[int | None, typer.Option(help="Jobs that run at once; 10 if not given.", min=0)] = None,
    minutes_per_day: Annotated[
        float | None, typer.Option(help="Minutes of running jobs in 24 hours; no limit if not given.", min=0)
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Requests in a minute; 600 if not given.", min=1, max=100_000)
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Make a key and print it, this once."""
    from service.commands import keys

    limits = {
        "max_queued": max_queued,
        "max_running": max_running,
        "minutes_per_day": minutes_per_day,
        "requests_per_minute": requests_per_minute,
    }
    keys.create(name, owner=owner, scopes=scope, days=days or None, limits=limits, as_json=json)


@keys_app.command("list")
def list_keys(*, json: JsonOption = False) -> None:
    """Show every key."""
    from service.commands import keys

    keys.show(as_json=json)


@keys_app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="KEY", help="The id of a key.")]) -> None:
    """End a key at once."""
    from service.commands import keys

    keys.revoke(key_id)


OwnerArgument = Annotated[str, typer.Argument(metavar="OWNER", help="Whose jobs.")]
NamespacesArgument = Annotated[
    list[str], typer.Argument(metavar="NAMESPACE...", help="Users or organizations of the Hub; '*' is every one.")
]


@keys_app.command("lend")
def lend_token(owner: OwnerArgument, namespaces: NamespacesArgument) -> None:
    """Let jobs that bring no Hub token use the worker's: to read and to publish in these namespaces, nowhere else."""
    from service.commands import keys

    keys.lend(owner, namespaces)


@keys_app.command("unlend")
def take_token_back(owner: OwnerArgument, namespaces: NamespacesArgument) -> None:
    """End a loan; jobs that run finish with it."""
    from service.commands import keys

    keys.take_back(owner, namespaces)


@keys_app.command("loans")
def list_loans(*, json: JsonOption = False) -> None:
    """Show where whose jobs may use the worker's Hub token."""
    from service.commands import keys

    keys.show_loans(as_json=json)
