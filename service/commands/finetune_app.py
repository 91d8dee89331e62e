"""`srr finetune` as it is typed; what it does needs torch and stands in the worker."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.keys_app import JsonOption
from service.commands.local import worker_command
from service.commands.options import CalibrationOption, Device, SeedOption, TokenOption
from service.commands.output import EXIT_BAD_INPUT, CommandError
from service.commands.places import require_free, require_source

if TYPE_CHECKING:  # the recipe vocabulary costs a fifth of a second, which `srr --help` need not pay
    from srr_core.recipe.tuning import TuningSpec

StartOption = Annotated[
    str | None,
    typer.Option(
        "--start",
        help="lora (16 bit), qlora, loftq, lq-lora, qera-approx, qera-exact, srr-paper, srr, srr-iterative; a model "
        "compressed by us is taken as it is.",
        metavar="NAME",
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="text, instructions, classification, regression, gsm8k, or one of GLUE: glue:sst2.",
        metavar="NAME",
    ),
]
FieldOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Replace a field of the fine-tuning, such as start.recipe.quantizer.num_bits=2; may be repeated.",
        metavar="optimizer.learning_rate=1e-4",
    ),
]
SpecOption = Annotated[
    Path | None,
    typer.Option("--spec", help="A whole fine-tuning as a JSON file; the other options change it.", dir_okay=False),
]
ValidationOption = Annotated[
    Path | None,
    typer.Option("--validation-data", help="Rows to judge by; else a share of DATA.", exists=True, dir_okay=False),
]
NeutralOption = Annotated[
    Path | None,
    typer.Option(
        "--neutral-text", help="UTF-8 text to measure on how far the model moves.", exists=True, dir_okay=False
    ),
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Only check the data, and say what would be learned and what it takes.")
]


def finetune(
    model: Annotated[str, typer.Argument(help="A folder, or a model on the Hub.", metavar="MODEL")],
    data: Annotated[Path, typer.Argument(help="JSONL, CSV, TSV, Parquet or text.", metavar="DATA", exists=True)],
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.", metavar="DESTINATION")],
    start: StartOption = None,
    task: TaskOption = None,
    rank: Annotated[int | None, typer.Option("--rank", help="Of the adapter.", min=1)] = None,
    assignments: FieldOption = [],  # noqa: B006  # Typer copies it
    spec: SpecOption = None,
    validation_data: ValidationOption = None,
    calibration_text: CalibrationOption = None,
    neutral_text: NeutralOption = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of a model on the Hub.")] = "main",
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.AUTO,
    seed: SeedOption = None,
    hub_token: TokenOption = None,
    *,
    check: CheckOption = False,
    json: JsonOption = False,
) -> None:
    """Fine-tune a model in few bits on your own data: compress it, train L·R on the packed weights, publish a folder.

    Slowing the preserved directions (--set slowing.kind=...) by gradient does nothing under AdamW; learning-rate does.
    """
    chosen = chosen_tuning(spec, start=start, task=task, rank=rank, assignments=assignments, seed=seed)
    require_source(model)
    require_free(destination)
    worker_command("finetune", "worker.finetune_commands")(
        model,
        data,
        destination,
        spec=chosen,
        has_start=start is not None or spec is not None,
        validation_data=validation_data,
        calibration_text=calibration_text,
        neutral_text=neutral_text,
        revision=revision,
        device=device.value,
        hub_token=hub_token,
        only_check=check,
        as_json=json,
    )


def chosen_tuning(
    spec: Path | None,
    *,
    start: str | None,
    task: str | None,
    rank: int | None,
    assignments: Sequence[str],
    seed: int | None,
) -> "TuningSpec":
    """Return the fine-tuning that the options say. Raises CommandError, RecipeError."""
    from srr_core.recipe import parse_assignments
    from srr_core.recipe.tuning import TuningSpec
    from srr_core.recipe.tuning_options import parse_tuning, with_fields, with_rank, with_start, with_task

    chosen = TuningSpec() if spec is None else parse_tuning(_document(spec))
    if start is not None:
        chosen = with_start(chosen, start)
    if task is not None:
        chosen = with_task(chosen, task)
    if rank is not None:
        chosen = with_rank(chosen, rank)
    changes = parse_assignments(assignments) | ({} if seed is None else {"seed": seed})
    return with_fields(chosen, changes) if changes else chosen


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", exit_code=EXIT_BAD_INPUT) from error
    except ValueError as error:
        raise CommandError(f"{file} is not JSON: {error}", exit_code=EXIT_BAD_INPUT) from error
    if not isinstance(document, dict):
        raise CommandError(f"{file} must hold a JSON object", exit_code=EXIT_BAD_INPUT)
    return document
