"""What the documents name exists: files, recipes, commands, make targets; and versions agree."""

import re
import tomllib
from importlib.metadata import version
from itertools import chain

from srr_core.recipe import PRESETS
from tests.architecture.tree import ROOT
from tests.docker.cli import commands_of_srr

README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)\)")
RECIPE_ROW = re.compile(r"^\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \|", re.MULTILINE)


def test_links_of_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "examples").glob("*.md"), *(ROOT / "srr_core").glob("*.md")]
    links = [(document, target) for document in documents for target in LINK.findall(document.read_text("utf-8"))]

    assert links != []
    assert [f"{document.name}: {target}" for document, target in links if not (document.parent / target).exists()] == []


def test_every_promise_of_security_names_a_test_that_is_there() -> None:
    rows = [row for row in (ROOT / "SECURITY.md").read_text("utf-8").splitlines() if row.startswith("| ")][1:]
    places = [(row, name) for row in rows for name in re.findall(r"`([\w/.]+)`", row.split(" | ")[-1])]
    written = {name for name in (ROOT / "tests" / "attacks").glob("test_*.py") if f"{name.name}`" in "".join(rows)}

    assert len(rows) > 15
    assert [row for row in rows if not row.split(" | ")[-1].strip(" |")] == []
    assert [name for _, name in places if not _tries(name)] == []
    # An attack nobody promises to withstand is a promise that was forgotten.
    assert sorted(path.name for path in set((ROOT / "tests" / "attacks").glob("test_*.py")) - written) == [
        "test_failing_watches.py",
        "test_redis_away.py",
    ]


def _tries(name: str) -> bool:
    return any((ROOT / folder / name).exists() for folder in ("", "tests/attacks"))


def test_the_readme_lists_exactly_the_named_recipes() -> None:
    section = README.split("\n## Recipes\n")[1].split("\n## ")[0]
    listed = {name for row in RECIPE_ROW.findall(section) for name in re.findall(r"`([^`]+)`", row)}

    assert listed == set(PRESETS)


def test_the_readme_names_only_commands_that_exist() -> None:
    named = set(re.findall(r"^\$ srr ([a-z]+)", README, re.MULTILINE))

    assert named != set()
    assert named - commands_of_srr() == set()


def test_the_readme_names_only_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert (
        set(re.findall(r"make ([a-z]+)\b", " ".join(re.findall(r"`[^`]*`|^\$ .*$", README, re.MULTILINE)))) <= targets
    )


def test_the_installed_version_is_the_declared_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert version(project["name"]) == project["version"]


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)

    assert {_normal(re.split(r"[^\w.-]", name)[0]) for name in wanted} - {_normal(name) for name in pins} == set()


def _normal(name: str) -> str:
    """Return a distribution's name in its one spelling (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
