"""Folders and names that a command is given, checked before anything that takes seconds to import."""

from pathlib import Path

from service.commands.output import EXIT_BAD_INPUT, CommandError


def require_source(source: str) -> None:
    """Refuse a name that can be neither a folder nor a model of the Hub. Raises CommandError."""
    is_repository = source.count("/") == 1 and not source.startswith(("/", "."))
    if not Path(source).is_dir() and not is_repository:
        raise CommandError(f"{source} is neither a folder nor a model like org/name", exit_code=EXIT_BAD_INPUT)


def require_folder(folder: Path) -> None:
    """Refuse what is not a folder. Raises CommandError."""
    if not folder.is_dir():
        raise CommandError(f"{folder} is not a folder", exit_code=EXIT_BAD_INPUT)


def require_free(destination: Path) -> None:
    """Refuse a destination where something is already. Raises CommandError."""
    if destination.exists():
        raise CommandError(
            f"{destination} exists already; choose a new folder or remove it first", exit_code=EXIT_BAD_INPUT
        )


def require_usable(data_dir: Path) -> None:
    """Make a data directory where there is none, and refuse what cannot be one. Raises CommandError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"--data-dir {data_dir} cannot be used: {error.strerror}; name a directory that can be written",
            exit_code=EXIT_BAD_INPUT,
        ) from error
