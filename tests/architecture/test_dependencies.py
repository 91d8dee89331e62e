"""What the code imports is declared where it is imported, and what is declared is needed."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.architecture.tree import PACKAGES, ROOT, product_files, relative

# Needed although no line of ours imports them: drivers and plugins that others load by name.
LOADED_BY_NAME = {
    "python-multipart",  # FastAPI, for forms
    "psycopg",  # SQLAlchemy
    "accelerate",  # transformers, for device maps
    "safetensors",  # read and written through our own checkpoint room, and by transformers
    "tokenizers",  # transformers
    "peft",  # transformers, for L·R
}
COMES_WITH_TORCH = {"triton"}
"""In torch's CUDA builds; code that imports it is loaded only where there is a GPU."""
THE_HOST_ITSELF = {"vllm"}
"""Servers that our plugin is loaded by; without them nobody imports it."""
NEEDS_TORCH = ("worker/", "srr_core/")
TORCH_FREE_CORE = ("srr_core/recipe/", "srr_core/report.py", "srr_core/errors.py", "srr_core/registry.py")


def _project() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"base": project["dependencies"], **project["optional-dependencies"]}


def _declared(*groups: str) -> set[str]:
    return {_normal(re.split(r"[^\w.-]", name)[0]) for group in groups for name in _project()[group]}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    top = {name.split(".")[0] for name in plain | from_}
    return {name for name in top if name not in sys.stdlib_module_names and name not in PACKAGES}


def _providers(name: str) -> set[str]:
    """Return the distributions that a top-level module comes from: several for a namespace package."""
    return {_normal(provider) for provider in packages_distributions().get(name, [name])}


def _undeclared(paths: Iterable[Path], declared: set[str]) -> set[str]:
    imported = set().union(*map(_imported, paths))
    return {name for name in imported if not _providers(name) & declared}


def _needs_torch(path: Path) -> bool:
    name = relative(path)
    return name.startswith(NEEDS_TORCH) and not name.startswith(TORCH_FREE_CORE)


def test_the_torch_free_install_has_all_the_service_imports() -> None:
    light = [path for path in product_files() if not _needs_torch(path)]

    assert _undeclared(light, _declared("base")) == set()


def test_the_worker_install_has_all_the_worker_imports() -> None:
    heavy = [path for path in product_files() if _needs_torch(path)]

    assert _undeclared(heavy, _declared("base", "worker", "gguf")) - COMES_WITH_TORCH - THE_HOST_ITSELF == set()


def test_nothing_is_declared_that_nobody_needs() -> None:
    imported = set().union(*map(_imported, product_files()))
    used = set().union(*map(_providers, imported)) | LOADED_BY_NAME

    assert _declared("base", "worker", "postgresql", "gguf") - used == set()
