"""The words of `srr repair`; what it does needs torch and stands in the worker."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.keys_app import JsonOption
from service.commands.local import worker_command
from service.commands.options import CalibrationOption, Device, EvaluationOption, TokenOption


def repair(
    artifact: Annotated[Path, typer.Argument(help="A folder that srr wrote.", metavar="ARTIFACT", exists=True)],
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.", metavar="DESTINATION")],
    source: Annotated[
        str | None,
        typer.Option(help="What it was made from: a folder, or a model on the Hub; else as its report says."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a source on the Hub; else as its report says.")
    ] = None,
    assignments: Annotated[
        list[str],
        typer.Option("--set", help="A field of the repair; may be repeated.", metavar="epochs=4"),
    ] = [],  # noqa: B006  # Typer copies it
    calibration_text: CalibrationOption = None,
    evaluation_text: EvaluationOption = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.AUTO,
    hub_token: TokenOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Let L·R and scales of an artifact learn from its source; its codes and its size stay."""
    from service.commands.recipe_option import repair_spec

    worker_command("repair", "worker.repair_command")(
        artifact,
        destination,
        spec=repair_spec(assignments),
        source=source,
        revision=revision,
        calibration_text=calibration_text,
        evaluation_text=evaluation_text,
        device=device.value,
        hub_token=hub_token,
        as_json=json,
    )
