"""How the command line ends that failed: one line on standard error, and an exit code that says whose fault it was."""

import sys
from typing import TYPE_CHECKING, NoReturn, cast

import typer

from service.commands.output import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, CommandError

if TYPE_CHECKING:
    from pydantic import ValidationError

_BAD_REQUESTS = frozenset({400, 404, 409, 413, 422})


def exit_with_usage(error: typer.TyperException) -> NoReturn:
    """Say in one line what is wrong with the words of a command, and where they are explained."""
    told = error.format_message()
    if told.lstrip().startswith("Usage:"):  # nothing was asked for, and the answer is the help
        sys.stderr.write(f"{told}\n")
        sys.exit(error.exit_code)
    cause: BaseException | None = error.__cause__ or error.__context__
    if type(cause).__name__ == "ValidationError":
        from srr_core.recipe.complaints import complaint

        wrong = "; ".join(complaint(item) for item in cast("ValidationError", cause).errors(include_url=False))
        told = f"{told.partition(': ')[0]}: {wrong}"
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "srr"
    sys.stderr.write(f"srr: {' '.join(told.split()).rstrip('.')}; see {command} --help\n")
    sys.exit(error.exit_code)


def exit_with(error: Exception) -> NoReturn:
    """Say a known failure in one line and leave with its code; a bug of ours is raised again."""
    code = _exit_code(error)
    if code is None:
        raise error
    sys.stderr.write(f"srr: {error}\n")
    sys.exit(code)


def _exit_code(error: Exception) -> int | None:
    from pydantic import ValidationError

    from service.client.errors import ApiError, ClientError
    from service.hub.errors import HubError, HubUnavailableError
    from service.jobs.errors import JobError
    from service.keys.errors import ApiKeyError
    from service.platform.errors import PlatformError
    from service.releases.errors import ReleaseError
    from srr_core import errors as core

    if isinstance(error, core.StopRequested):
        return EXIT_INTERRUPTED
    if isinstance(error, CommandError):
        return error.exit_code
    of_core = (core.NumericalError, core.StorageError, core.VerificationError)
    if isinstance(error, ApiError):
        return EXIT_BAD_INPUT if error.problem.status in _BAD_REQUESTS else EXIT_FAILED
    if isinstance(error, (ClientError, HubUnavailableError, JobError, PlatformError, *of_core)):
        return EXIT_FAILED
    is_input = isinstance(error, core.SrrError | HubError | ApiKeyError | ReleaseError | ValidationError)
    return EXIT_BAD_INPUT if is_input else None
