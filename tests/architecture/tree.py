"""The Python files of the product and of its tests, for the tests that read the tree."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("service", "worker", "srr_core", "examples")


def product_files() -> list[Path]:
    """Return every Python file that ships, sorted."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def every_file() -> list[Path]:
    """Return the product, the tests and the benchmarks, sorted."""
    return sorted([*product_files(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])


def relative(path: Path) -> str:
    """Return a path the way people write it: from the root, with slashes."""
    return path.relative_to(ROOT).as_posix()
