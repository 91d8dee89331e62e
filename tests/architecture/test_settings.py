"""Every setting is explained in .env.example, and nothing is explained that does not exist."""

import re

from tests.architecture.settings import every_environment_name, settings_classes
from tests.architecture.tree import ROOT

VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)")
LINE = re.compile(r"^#? ?([A-Z][A-Z0-9_]*)=")


def _explained() -> set[str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return {match[1] for match in map(LINE.match, lines) if match}


def _used_by_compose() -> set[str]:
    files = [ROOT / "docker-compose.yml", *(ROOT / "docker").glob("compose.*.yml")]
    return {name for file in files for name in VARIABLE.findall(file.read_text(encoding="utf-8"))}


def test_every_variable_of_the_compose_files_is_in_the_example() -> None:
    assert _used_by_compose() != set()
    assert _used_by_compose() - _explained() == set()


def test_every_setting_is_in_the_example() -> None:
    assert every_environment_name() - _explained() == set()


def test_the_example_names_only_what_is_read() -> None:
    assert _explained() - every_environment_name() - _used_by_compose() == set()


def test_every_setting_describes_itself() -> None:
    silent = [
        f"{settings.__name__}.{name}"
        for settings in settings_classes()
        for name, field in settings.model_fields.items()
        if not field.description
    ]

    assert silent == []
