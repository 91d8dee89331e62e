"""The words of `srr watch`. Like the rest of the command line, it imports what a command needs when it runs."""

from typing import Annotated, Any

import typer

from service.commands.keys_app import JsonOption
from service.commands.options import SetOption, TargetBitsOption, TargetKLOption, TargetOption, TargetSizeOption
from service.commands.submit_app import DEFAULT_URL, KEY, URL, PrivateOption

AcknowledgeOption = Annotated[
    bool, typer.Option("--acknowledge-license", help="The terms of these models were read and allow this.")
]

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


def _rules(
    name: str,
    pattern: str,
    *,
    destination: str,
    recipes: list[Any],
    branches: list[str],
    tags: list[str],
    private: bool | None,
    acknowledge_license: bool,
) -> dict[str, Any]:
    rules: dict[str, Any] = {
        "name": name,
        "pattern": pattern,
        "destination": destination,
        "private": private,
        "acknowledge_license": acknowledge_license,
    }
    lists = {"recipes": recipes, "branches": branches, "tags": tags}
    return rules | {field: values for field, values in lists.items() if values}


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What to call the watch.")]
PatternArgument = Annotated[str, typer.Argument(metavar="ORG/MODEL", help="Models; the model may hold * and ?.")]
DestinationOption = Annotated[
    str,
    typer.Option(
        "--destination", "-d", help="Repository, of {owner}, {name}, {recipe}, {bits}, {total_bits} and {ref}."
    ),
]
RecipesOption = Annotated[
    list[str],
    typer.Option(
        "--recipe", "-r", help="A name from `srr recipes`, or a JSON file; may be repeated.", metavar="NAME|FILE"
    ),
]
BranchesOption = Annotated[list[str], typer.Option("--branch", help="main if none; may be repeated.", metavar="GLOB")]
TagsOption = Annotated[
    list[str], typer.Option("--tag", help="Tags that are releases; may be repeated.", metavar="GLOB")
]


@watches_app.command("add")
def add_watch(
    name: NameArgument,
    pattern: PatternArgument,
    destination: DestinationOption,
    recipes: RecipesOption = [],  # noqa: B006  # Typer copies it
    assignments: SetOption = [],  # noqa: B006  # Typer copies it
    target: TargetOption = None,
    target_bits: TargetBitsOption = None,
    target_size: TargetSizeOption = None,
    target_kl: TargetKLOption = None,
    branches: BranchesOption = [],  # noqa: B006  # Typer copies it
    tags: TagsOption = [],  # noqa: B006  # Typer copies it
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    private: PrivateOption = None,
    acknowledge_license: AcknowledgeOption = False,
    json: JsonOption = False,
) -> None:
    """Watch models and compress what is released."""
    from service.client import Client
    from service.commands import watches_remote
    from service.commands.recipe_option import chosen_recipes

    budget = {"target_bits": target_bits, "target_size": target_size, "target_kl": target_kl}
    rules = _rules(
        name,
        pattern,
        destination=destination,
        recipes=chosen_recipes(recipes, assignments, target=target, **budget),
        branches=branches,
        tags=tags,
        private=private,
        acknowledge_license=acknowledge_license,
    )
    with Client(url, api_key=api_key) as client:
        watches_remote.add_watch(client, rules, as_json=json)


@watches_app.command("preview")
def preview_watch(
    pattern: PatternArgument,
    destination: DestinationOption,
    recipes: RecipesOption = [],  # noqa: B006  # Typer copies it
    assignments: SetOption = [],  # noqa: B006  # Typer copies it
    target: TargetOption = None,
    target_bits: TargetBitsOption = None,
    target_size: TargetSizeOption = None,
    target_kl: TargetKLOption = None,
    branches: BranchesOption = [],  # noqa: B006  # Typer copies it
    tags: TagsOption = [],  # noqa: B006  # Typer copies it
    days: Annotated[int, typer.Option(help="How far back to look.", min=1, max=90)] = 30,
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
    *,
    private: PrivateOption = None,
    acknowledge_license: AcknowledgeOption = False,
    json: JsonOption = False,
) -> None:
    """Say what a watch would have done about the releases of the last days, and make none."""
    from service.client import Client
    from service.commands import watches_remote
    from service.commands.recipe_option import chosen_recipes

    budget = {"target_bits": target_bits, "target_size": target_size, "target_kl": target_kl}
    rules = _rules(
        "preview",
        pattern,
        destination=destination,
        recipes=chosen_recipes(recipes, assignments, target=target, **budget),
        branches=branches,
        tags=tags,
        private=private,
        acknowledge_license=acknowledge_license,
    )
    with Client(url, api_key=api_key) as client:
        watches_remote.preview_watch(client, rules, days=days, as_json=json)


@watches_app.command("list")
def list_watches(
    url: Annotated[str, URL] = DEFAULT_URL, api_key: Annotated[str | None, KEY] = None, *, json: JsonOption = False
) -> None:
    """Show your watches."""
    from service.client import Client
    from service.commands import watches_remote

    with Client(url, api_key=api_key) as client:
        watches_remote.list_watches(client, as_json=json)


@watches_app.command("remove")
def remove_watch(
    watch: Annotated[str, typer.Argument(metavar="WATCH", help="The id of a watch.")],
    url: Annotated[str, URL] = DEFAULT_URL,
    api_key: Annotated[str | None, KEY] = None,
) -> None:
    """End a watch; its jobs stay."""
    from service.client import Client
    from service.commands import watches_remote

    with Client(url, api_key=api_key) as client:
        watches_remote.remove_watch(client, watch)
