"""The reference pages, written from the code at every build: errors, fields, REST, commands and settings."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import service
import srr_core
from srr_core.conversion_report import ConversionReport
from srr_core.evaluation_report import EvaluationReport
from srr_core.recipe import Recipe
from srr_core.report import Report

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that lie in the folder (an event of MkDocs)."""
    for name, render in PAGES.items():
        files.append(File.generated(config, name, content=render()))
    return files


def errors() -> str:
    """Return every error code with its HTTP status, cause and cure."""
    from service.edge.statuses import status_of  # noqa: PLC0415  # needs FastAPI, which the other pages do not

    rows = [
        f"| `{code}` | {_status(status_of, kind)} | {_words(kind.__doc__)} | {_words(getattr(kind, 'cure', ''))} |"
        for code, kind in sorted(_error_classes().items())
    ]
    head = "# Error codes\n\nEvery answer that is no success is a [problem document](https://www.rfc-editor.org/rfc/rfc9457)"
    head += " with one of these in `code`; a failed job has one in `failure.code`.\n\n"
    return head + "| code | status | cause | cure |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def recipe() -> str:
    """Return the fields of a recipe, as `srr_core/README.md` documents and a test compares them."""
    text = (ROOT / "srr_core" / "README.md").read_text("utf-8")
    sections = [_section(text, "Specifications"), _section(text, "Named recipes")]
    return "# Recipe fields\n\n" + "\n".join(f"## {section}" for section in sections)


def report() -> str:
    """Return the fields of `report.json`."""
    parts = ["# Report fields\n\n`report.json` lies in every artifact; `GET /v1/jobs/{id}/report` returns the same.\n"]
    parts += [_model_table(model) for model in _models(Report) if not issubclass(model, Recipe)]
    return "\n".join(parts)


def evaluation() -> str:
    """Return the evaluators with their fields, and the fields of `evaluation.json`."""
    text = (ROOT / "srr_core" / "README.md").read_text("utf-8")
    parts = [
        "# Evaluation fields\n",
        f"## {_section(text, 'Measuring outside of a compression')}",
        "## The fields of `evaluation.json`\n",
    ]
    parts += [_model_table(model) for model in _models(EvaluationReport)]
    return "\n".join(parts)


def conversion() -> str:
    """Return the formats of a conversion with their fields, and the fields of `conversion.json`."""
    parts = ["# Conversion fields\n\nThe formats of a job of kind `convert`, and what its report says.\n"]
    parts += [_model_table(model) for model in _models(ConversionReport)]
    return "\n".join(parts)


def rest() -> str:
    """Return the operations of the REST API."""
    from service.app import create_app  # noqa: PLC0415  # needs FastAPI, which the other pages do not

    document = create_app().openapi()
    rows = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = ", ".join(sorted(operation["responses"]))
            rows.append(f"| `{method.upper()} {path}` | {_words(operation.get('summary', ''))} | {answers} |")
    head = "# REST API\n\nThe schema is at `/openapi.json` of a running service, with every field and example.\n\n"
    return head + "| operation | what it does | answers |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def command_line() -> str:
    """Return every command with its help."""
    from service.cli import app  # noqa: PLC0415  # needs every command, which the other pages do not

    group = typer.main.get_command(app)
    parts = ["# Command line\n"]
    for name, command in _commands(group, "srr"):
        options = [parameter for parameter in command.params if getattr(parameter, "help", None)]
        rows = [f"| `{'`, `'.join(option.opts)}` | {_words(getattr(option, 'help', '') or '')} |" for option in options]
        table = "| option or argument | what it is |\n|---|---|\n" + "\n".join(rows) if rows else ""
        parts.append(f"## {name}\n\n{_words(command.help or '')}\n\n{table}\n")
    return "\n".join(parts)


def settings() -> str:
    """Return every setting, from the file that explains them."""
    text = (ROOT / ".env.example").read_text("utf-8")
    return f"# Settings\n\n`.env.example`, which a test compares with the code:\n\n```bash\n{text}```\n"


def method() -> str:
    """Return the method in one page."""
    text = (ROOT / "srr_core" / "README.md").read_text("utf-8")
    return "# " + _section(text, "The method in one page").replace("The method in one page", "The method", 1)


def decisions() -> str:
    """Return the decisions of the repository."""
    return (ROOT / "DECISIONS.md").read_text("utf-8")


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/errors.md": errors,
    "reference/recipe.md": recipe,
    "reference/report.md": report,
    "reference/evaluation.md": evaluation,
    "reference/conversion.md": conversion,
    "reference/rest.md": rest,
    "reference/command-line.md": command_line,
    "reference/settings.md": settings,
    "explanation/method.md": method,
    "explanation/decisions.md": decisions,
}


def _error_classes() -> dict[str, type[Exception]]:
    found: dict[str, type[Exception]] = {}
    for module in _modules_named_errors():
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, Exception)
                and isinstance(getattr(value, "code", None), str)
            ):
                found.setdefault(value.__dict__.get("code", ""), value)
    found.pop("", None)
    return found


def _modules_named_errors() -> Iterator[ModuleType]:
    for package in (srr_core, service):
        for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if entry.name.rpartition(".")[2] in {"errors", "csrf"}:
                yield importlib.import_module(entry.name)


def _status(status_of: Callable[[Exception], Any], kind: type[Exception]) -> str:
    try:
        return str(int(status_of(kind("x"))))
    except (TypeError, StopIteration):  # a failure of a worker or of the client, which no answer carries
        return ""


def _models(root: type[BaseModel]) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = [root]
    for model in found:
        for field in model.model_fields.values():
            found += [kind for kind in _inside(field.annotation) if kind not in found]
    return found


def _inside(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for inner in getattr(annotation, "__args__", ()) for kind in _inside(inner)]


def _model_table(model: type[BaseModel]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        words = _words(field.description)
        rows.append(f"| `{name}` | {_type(field.annotation)} | {_default(field.get_default())} | {words} |")
    table = "| field | type | default | what it says |\n|---|---|---|---|\n" + "\n".join(rows)
    return f"## {model.__name__}\n\n{_words(model.__doc__)}\n\n{table}\n"


def _type(annotation: Any) -> str:
    text = re.sub(r"<class '([^']+)'>", r"\1", str(annotation))
    return "`" + re.sub(r"\b(?:srr_core|typing|collections\.abc|pathlib)[\w.]*\.", "", text).replace("|", "or") + "`"


def _default(value: Any) -> str:
    return "" if value is PydanticUndefined else f"`{value!r}`" if not isinstance(value, BaseModel) else "see there"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    # Typer brings a copy of Click of its own, so a group is known by what it has and not by its class.
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child, found in children.items():
        yield from _commands(found, f"{name} {child}")


def _section(text: str, title: str) -> str:
    body = text.split(f"\n## {title}\n", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]
    return f"{title}\n{body}\n"


def _words(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
