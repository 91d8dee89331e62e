"""Tables that must not drift: specifications, their implementations and the rows that document them."""

from typing import Any, get_args

import pytest

from srr_core.quantizers import QUANTIZERS
from srr_core.rank_selectors import RANK_SELECTORS
from srr_core.recipe import PRESETS, QuantizerSpec, RankSelectorSpec, ScalingSpec
from srr_core.registry import Registry
from srr_core.scalings import SCALINGS
from tests.architecture.tree import ROOT

FAMILIES = [
    pytest.param(QuantizerSpec, QUANTIZERS, id="quantizers"),
    pytest.param(ScalingSpec, SCALINGS, id="scalings"),
    pytest.param(RankSelectorSpec, RANK_SELECTORS, id="rank_selectors"),
]


def _members(union: Any) -> set[type]:
    """Return the specification types of an `Annotated[A | B, Field(discriminator=...)]`."""
    return set(get_args(get_args(union)[0]))


def _table_rows() -> list[str]:
    lines = (ROOT / "srr_core" / "README.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("|")]


@pytest.mark.parametrize(("union", "registry"), FAMILIES)
def test_every_specification_has_an_implementation(union: Any, registry: Registry[Any]) -> None:
    assert set(registry) == _members(union)


@pytest.mark.parametrize(("union", "registry"), FAMILIES)
def test_every_specification_has_a_row_in_the_readme(union: Any, registry: Registry[Any]) -> None:
    rows = "\n".join(_table_rows())

    assert {spec.__name__ for spec in _members(union) if f"`{spec.__name__}`" not in rows} == set()


def test_every_named_recipe_has_a_row_in_the_readme() -> None:
    rows = "\n".join(_table_rows())

    assert {name for name in PRESETS if f"`{name}`" not in rows} == set()
