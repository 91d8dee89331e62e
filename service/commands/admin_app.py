"""The words of `srr admin`. Like the rest of the command line, it imports what a command needs when it runs."""

from typing import Annotated

import typer

from service.commands.keys_app import JsonOption

admin_app = typer.Typer(
    help="Look after jobs and workers, in the database that SERVICE_* names.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
WorkerArgument = Annotated[str, typer.Argument(metavar="WORKER", help="Name of a worker, or of a host: all on it.")]


@admin_app.command("leases")
def leases(*, json: JsonOption = False) -> None:
    """Show which worker holds which job, and until when."""
    from service.commands import admin

    admin.show_leases(as_json=json)


@admin_app.command("requeue")
def requeue(job_id: Annotated[str, typer.Argument(metavar="JOB", help="The id of a job.")]) -> None:
    """Take a job from the worker that holds it, and queue it again."""
    from service.commands import admin

    admin.requeue(job_id)


@admin_app.command("quarantine")
def quarantine(name: WorkerArgument, reason: Annotated[str, typer.Option(help="Shown on the page Workers.")]) -> None:
    """Keep a worker from taking jobs; what it holds it finishes."""
    from service.commands import admin

    admin.quarantine(name, reason=reason)


@admin_app.command("release")
def release(name: WorkerArgument) -> None:
    """Let a worker take jobs again."""
    from service.commands import admin

    admin.release(name)


@admin_app.command("drain")
def drain(*, undo: Annotated[bool, typer.Option("--undo", help="Let them take jobs again.")] = False) -> None:
    """Keep every worker from taking jobs: before an upgrade, or to stop an installation in order."""
    from service.commands import admin

    admin.drain(undo=undo)


@admin_app.command("rotate-vault")
def rotate_vault() -> None:
    """Seal every stored secret with the first of SERVICE_CREDENTIAL_KEYS, so that older keys can go."""
    from service.commands import admin

    admin.rotate_vault()
