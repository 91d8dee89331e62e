"""The commands of `srr`, read from its own definition."""

import typer.main


def commands_of_srr() -> set[str]:
    """Return the names a user may write after `srr`."""
    from service.cli import app

    group = typer.main.get_command(app)
    return set(getattr(group, "commands", {}))
