"""`srr watch add`, `list`, `preview`, `remove` and `srr webhook ...`: over the REST API, as the pages do it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from service.client import Client
from service.commands.output import print_json, print_line, print_table
from service.notifications.schema import Endpoint
from service.releases.schema import Preview, Watch


def add_watch(client: Client, rules: Mapping[str, Any], *, as_json: bool) -> None:
    """Make a watch and print its id."""
    watch = client.create_watch(rules)
    if as_json:
        print_json(watch.model_dump(mode="json"))
    else:
        print_line(watch.id)


def list_watches(client: Client, *, as_json: bool) -> None:
    """Print the watches of the caller."""
    watches = client.watches()
    if as_json:
        print_json({"watches": [watch.model_dump(mode="json") for watch in watches]})
    else:
        print_table(_table(("Watch", "Name", "Models", "Recipes", "Destination", "State"), map(_watch, watches)))


def preview_watch(client: Client, rules: Mapping[str, Any], *, days: int, as_json: bool) -> None:
    """Print what a watch with these rules would have done lately, and make none."""
    previews = client.preview_watch(rules, days=days)
    if as_json:
        print_json({"previews": [preview.model_dump(mode="json") for preview in previews]})
    elif previews:
        for preview in previews:
            print_line(_previewed(preview))
    else:
        print_line(f"no release of the last {days} days matches")


def remove_watch(client: Client, watch_id: str) -> None:
    """End a watch; its jobs stay."""
    client.delete_watch(watch_id)
    print_line(f"{watch_id} removed")


def add_endpoint(client: Client, rules: Mapping[str, Any], *, as_json: bool) -> None:
    """Make a webhook and print its id and its secret, this once."""
    made = client.create_endpoint(rules)
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        print_line(made.endpoint.id)
        print_line(f"secret, shown this once: {made.secret}")


def list_endpoints(client: Client, *, as_json: bool) -> None:
    """Print the webhooks of the caller."""
    endpoints = client.endpoints()
    if as_json:
        print_json({"endpoints": [endpoint.model_dump(mode="json") for endpoint in endpoints]})
    else:
        print_table(_table(("Webhook", "Address", "Events", "State"), map(_endpoint, endpoints)))


def try_endpoint(client: Client, endpoint_id: str, *, as_json: bool) -> None:
    """Queue a trial message and print its id."""
    delivery = client.test_endpoint(endpoint_id)
    if as_json:
        print_json(delivery.model_dump(mode="json"))
    else:
        print_line(f"{delivery.id} {delivery.state}")


def remove_endpoint(client: Client, endpoint_id: str) -> None:
    """End a webhook and its log."""
    client.delete_endpoint(endpoint_id)
    print_line(f"{endpoint_id} removed")


def _watch(watch: Watch) -> tuple[str, ...]:
    recipes = ", ".join(recipe.name for recipe in watch.recipes)
    return watch.id, watch.name, watch.pattern, recipes, watch.destination, "on" if watch.enabled else "off"


def _previewed(preview: Preview) -> str:
    outcome = f"skipped: {preview.skipped}" if preview.skipped else f"to {', '.join(preview.destinations)}"
    return f"{preview.released_at:%Y-%m-%d} {preview.repo_id} {preview.ref} {outcome}"


def _endpoint(endpoint: Endpoint) -> tuple[str, ...]:
    state = "on" if endpoint.enabled else endpoint.disabled_reason or "off"
    return endpoint.id, endpoint.url, ", ".join(endpoint.types), state


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
