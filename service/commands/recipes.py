"""`srr recipes`: what the named recipes are."""

from rich.markup import escape
from rich.table import Table

from service.commands.output import print_json, print_table
from srr_core.recipe import DEFAULT_RECIPE, PRESETS, named_recipe


def show_recipes(name: str | None, *, as_json: bool) -> None:
    """Print every recipe, or one with all its options."""
    if name is not None:
        print_json(named_recipe(name).model_dump(mode="json"))
    elif as_json:
        print_json({"recipes": [recipe.model_dump(mode="json") for recipe in PRESETS.values()]})
    else:
        print_table(_table())


def _table() -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Recipe", "What it does", "Bits", "Rank", "Reference"):
        table.add_column(heading, no_wrap=heading in ("Recipe", "Bits", "Rank"))
    for recipe in PRESETS.values():
        mark = " (default)" if recipe.name == DEFAULT_RECIPE else ""
        table.add_row(
            escape(recipe.name + mark),
            escape(recipe.title),
            str(recipe.quantization_bits),
            str(recipe.rank),
            escape(recipe.reference),
        )
    return table
