"""The `srr` command. Nothing is imported before a subcommand needs it, so that `srr --help` is instant."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.admin_app import admin_app
from service.commands.endings import exit_with, exit_with_usage
from service.commands.evaluate import evaluate
from service.commands.finetune_app import finetune
from service.commands.hub_app import hub_app
from service.commands.keys_app import JsonOption, keys_app
from service.commands.local import worker_command
from service.commands.options import (
    CalibrationOption,
    Device,
    EvaluationOption,
    RecipeOption,
    SeedOption,
    SetOption,
    TargetBitsOption,
    TargetKLOption,
    TargetOption,
    TargetSizeOption,
    TokenOption,
)
from service.commands.output import EXIT_FAILED
from service.commands.places import require_folder, require_free, require_source, require_usable
from service.commands.repair import repair
from service.commands.submit_app import submit_evaluation
from service.commands.submit_conversion import submit_conversion
from service.commands.submit_tuning import compare_finetunings, publish_checkpoint, submit_finetuning
from service.commands.watches_app import watches_app
from service.commands.webhooks_app import webhooks_app

if TYPE_CHECKING:
    from service.client import Client

app = typer.Typer(
    name="srr",
    help="Compress language models: quantize the weights, repair them with a low-rank correction, measure, publish.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(finetune)
app.add_typer(keys_app, name="keys")
app.add_typer(admin_app, name="admin")
app.command("evaluate")(evaluate)
app.command("repair")(repair)
app.command()(submit_evaluation)
app.command()(submit_finetuning)
app.command()(publish_checkpoint)
app.command()(compare_finetunings)
app.command()(submit_conversion)
app.add_typer(hub_app, name="hub")
app.add_typer(watches_app, name="watch")
app.add_typer(webhooks_app, name="webhook")

UrlOption = Annotated[str, typer.Option("--url", envvar="SRR_URL", help="Address of the service.")]
KeyOption = Annotated[
    str | None, typer.Option("--api-key", envvar="SRR_API_KEY", help="API key of the service.", show_default=False)
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job.")]
DEFAULT_URL = "http://127.0.0.1:8000"


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show all options of this one.")] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Show the named recipes."""
    from service.commands.recipes import show_recipes

    show_recipes(name, as_json=json)


@app.command()
def compress(
    source: Annotated[str, typer.Argument(help="A folder, or a model on the Hub.", metavar="SOURCE")],
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.", metavar="DESTINATION")],
    recipe: RecipeOption = None,
    assignments: SetOption = [],  # noqa: B006  # Typer copies it
    target: TargetOption = None,
    target_bits: TargetBitsOption = None,
    target_size: TargetSizeOption = None,
    target_kl: TargetKLOption = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of a model on the Hub.")] = "main",
    calibration_text: CalibrationOption = None,
    evaluation_text: EvaluationOption = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.AUTO,
    seed: SeedOption = None,
    hub_token: TokenOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Compress a model on this machine, without any service."""
    from service.commands.recipe_option import chosen_recipe

    budget: Any = {"target_bits": target_bits, "target_size": target_size, "target_kl": target_kl}
    chosen = chosen_recipe(recipe, assignments, seed=seed, target=target, **budget)
    require_source(source)
    require_free(destination)
    worker_command("compress")(
        source,
        destination,
        recipe=chosen,
        revision=revision,
        calibration_text=calibration_text,
        evaluation_text=evaluation_text,
        device=device.value,
        hub_token=hub_token,
        as_json=json,
    )


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(help="A folder, or a model on the Hub.", metavar="SOURCE")],
    recipe: RecipeOption = None,
    assignments: SetOption = [],  # noqa: B006  # Typer copies it
    target: TargetOption = None,
    target_bits: TargetBitsOption = None,
    target_size: TargetSizeOption = None,
    target_kl: TargetKLOption = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of a model on the Hub.")] = "main",
    calibration_text: CalibrationOption = None,
    hub_token: TokenOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Say what compressing a model would mean: size, time, memory, who can load it. Reads no weights."""
    from service.commands.recipe_option import chosen_recipe

    budget: Any = {"target_bits": target_bits, "target_size": target_size, "target_kl": target_kl}
    chosen = chosen_recipe(recipe, assignments, target=target, **budget)
    require_source(source)
    command = worker_command("inspect", "worker.model_commands")
    command(
        source,
        recipe=chosen,
        revision=revision,
        calibration_text=calibration_text,
        hub_token=hub_token,
        as_json=json,
    )


@app.command()
def export(
    artifact: Annotated[Path, typer.Argument(help="A folder made by `srr compress`.", metavar="ARTIFACT")],
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.", metavar="DESTINATION")],
    to: Annotated[str, typer.Option("--to", help="merged, adapter, gptq or gguf.", metavar="FORMAT")],
    assignments: Annotated[
        list[str], typer.Option("--set", help="An option of the format; may be repeated.", metavar="merged=f16")
    ] = [],  # noqa: B006  # Typer copies it
    *,
    allow_inexact: Annotated[
        bool, typer.Option("--allow-inexact", help="gguf: round what no block type holds exactly, and count it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Convert a compressed model for other tools, exactly or, if that is allowed, nearly."""
    require_folder(artifact)
    require_free(destination)
    chosen = [*assignments, "allow_inexact=true"] if allow_inexact else assignments
    command = worker_command("export", "worker.model_commands")
    command(artifact, destination, target=to, assignments=chosen, as_json=json)


@app.command()
def doctor(*, json: JsonOption = False) -> None:
    """Show what this machine has, and which code computes which packed layer here."""
    worker_command("doctor", "worker.model_commands")(as_json=json)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on loopback; 0 picks a free one.", min=0, max=65_535)] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".srr"),
) -> None:
    """Run the whole service on this machine: API, pages, worker and a hub made of folders. Loopback only."""
    require_usable(data_dir)
    from service.commands.serve import run_embedded

    hub = worker_command("seed", "worker.hub_commands")(data_dir)
    run_embedded(port=port, data_dir=data_dir, hub=hub, bring=worker_command("bring", "worker.hub_commands"))


@app.command()
def api() -> None:
    """Run the API and the pages, configured by SERVICE_* variables."""
    from service.commands.serve import run_api
    from service.settings import ServiceSettings

    run_api(ServiceSettings())


@app.command()
def worker() -> None:
    """Run a worker, configured by SERVICE_* and WORKER_* variables."""
    worker_command("run_worker")()


@app.command()
def demo(
    model: Annotated[str | None, typer.Option(help="A model on the Hub instead of the bundled one.")] = None,
    recipe: RecipeOption = None,
    assignments: SetOption = [],  # noqa: B006  # Typer copies it
    target: TargetOption = None,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".demo"),
    *,
    exit_when_done: Annotated[bool, typer.Option("--exit", help="Stop the service after the report.")] = False,
) -> None:
    """Start a service, compress a small model and say whether it was worth it; with srr-fast if no recipe is named."""
    require_usable(data_dir)
    from service.commands.recipe_option import DEMO_RECIPE, chosen_recipe

    chosen = chosen_recipe(recipe or DEMO_RECIPE, assignments, target=target)
    worker_command("demo")(model=model, recipe=chosen, data_dir=data_dir, exit_when_done=exit_when_done)


@app.command()
def submit(
    model: Annotated[str, typer.Argument(help="The model to compress.", metavar="ORG/MODEL")],
    destination: Annotated[str, typer.Option("--destination", "-d", help="Where to publish.", metavar="ORG/NAME")],
    recipe: RecipeOption = None,
    assignments: SetOption = [],  # noqa: B006  # Typer copies it
    target: TargetOption = None,
    target_bits: TargetBitsOption = None,
    target_size: TargetSizeOption = None,
    target_kl: TargetKLOption = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit.")] = "main",
    calibration_text: CalibrationOption = None,
    evaluation_text: EvaluationOption = None,
    seed: SeedOption = None,
    hub_token: TokenOption = None,
    tags: Annotated[
        list[str], typer.Option("--tag", help="A word to find the job by; may be repeated.", metavar="TAG")
    ] = [],  # noqa: B006  # Typer copies it
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and request within a day give the same job.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    *,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Who may see the result; if not given, as the source.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run even when a job did or does the same.")] = False,
    acknowledge_license: Annotated[
        bool, typer.Option("--acknowledge-license", help="The model's unclear licence was read and allows this.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the job has ended.")] = False,
    json: JsonOption = False,
) -> None:
    """Submit a model to a running service."""
    from service.commands import remote
    from service.commands.recipe_option import chosen_recipe

    budget: Any = {"target_bits": target_bits, "target_size": target_size, "target_kl": target_kl}
    chosen = chosen_recipe(recipe, assignments, seed=seed, target=target, **budget)
    with _client(url, api_key) as client:
        remote.submit(
            client,
            model,
            destination=destination,
            recipe=chosen,
            revision=revision,
            calibration_text=calibration_text,
            evaluation_text=evaluation_text,
            private=private,
            tags=tags,
            force=force,
            acknowledge_license=acknowledge_license,
            idempotency_key=idempotency_key,
            hub_token=hub_token,
            wait=wait,
            as_json=json,
        )


@app.command()
def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The id of a job; none lists the latest.")] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Show one job, or the latest ones."""
    from service.commands import remote

    with _client(url, api_key) as client:
        remote.status(client, job, as_json=json)


@app.command()
def report(
    place: Annotated[str, typer.Argument(help="A job, a folder, or a repository.", metavar="JOB|FOLDER|ORG/NAME")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file to write it to: .md, .html or .json.", metavar="FILE"),
    ] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of a repository.")] = "main",
    hub_token: TokenOption = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Say what came of a job or of an artifact, in the words of its page; a report needs no service and no source."""
    from service.commands.report import show_report

    with _client(url, api_key) as client:
        show_report(place, client, revision=revision, hub_token=hub_token, output=output, as_json=json)


@app.command()
def cancel(
    job: JobArgument, url: UrlOption = DEFAULT_URL, api_key: KeyOption = None, *, json: JsonOption = False
) -> None:
    """Cancel a job."""
    from service.commands import remote

    with _client(url, api_key) as client:
        remote.cancel(client, job, as_json=json)


@app.command()
def retry(
    job: JobArgument,
    hub_token: TokenOption = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Queue a failed or canceled job again."""
    from service.commands import remote

    with _client(url, api_key) as client:
        remote.retry(client, job, hub_token=hub_token, as_json=json)


@app.command()
def logs(
    job: JobArgument,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    json: JsonOption = False,
) -> None:
    """Print what has happened to a job."""
    from service.commands import remote

    with _client(url, api_key) as client:
        remote.logs(client, job, follow=follow, as_json=json)


def main() -> None:
    """Run the command line; every failure is one line on standard error and an exit code."""
    try:
        left = app(prog_name="srr", standalone_mode=False)
    except typer.TyperException as error:
        exit_with_usage(error)
    except typer.Abort:
        sys.exit(EXIT_FAILED)
    except Exception as error:  # noqa: BLE001  # the edge: what is not a known failure is raised again
        exit_with(error)
    else:
        sys.exit(left if isinstance(left, int) else 0)  # an exit code where a command asked for one


def _client(url: str, api_key: str | None) -> "Client":
    from service.client import Client

    return Client(url, api_key=api_key)


if __name__ == "__main__":
    main()
