"""The words of `srr hub`. Like the rest of the command line, it imports what a command needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.keys_app import JsonOption
from service.commands.local import worker_command

hub_app = typer.Typer(
    help="Bring models into the folder hub of `srr serve`, list and remove them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DataOption = Annotated[Path, typer.Option("--data-dir", help="The data directory of `srr serve`.")]
RepoArgument = Annotated[str, typer.Argument(help="The name the model has in the hub.", metavar="ORG/NAME")]
DEFAULT_DATA_DIR = Path(".srr")


@hub_app.command("add")
def add(
    folder: Annotated[
        Path, typer.Argument(help="A folder with config.json and weights.", exists=True, file_okay=False)
    ],
    repo_id: RepoArgument,
    data_dir: DataOption = DEFAULT_DATA_DIR,
    *,
    json: JsonOption = False,
) -> None:
    """Copy a local model into the hub."""
    worker_command("add", "worker.hub_commands")(folder, repo_id, data_dir=data_dir, as_json=json)


@hub_app.command("list")
def list_models(data_dir: DataOption = DEFAULT_DATA_DIR, *, json: JsonOption = False) -> None:
    """Show the models in the hub."""
    worker_command("list_models", "worker.hub_commands")(data_dir=data_dir, as_json=json)


@hub_app.command("remove")
def remove(repo_id: RepoArgument, data_dir: DataOption = DEFAULT_DATA_DIR, *, json: JsonOption = False) -> None:
    """Delete a model from the hub, with all its commits."""
    worker_command("remove", "worker.hub_commands")(repo_id, data_dir=data_dir, as_json=json)
