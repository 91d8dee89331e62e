"""Tables that must not drift: specifications, their implementations and the rows that document them."""

from collections.abc import Collection, Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from srr_core.evaluators import EVALUATORS
from srr_core.evaluators.table import EVALUATIONS
from srr_core.quantizers import QUANTIZERS
from srr_core.rank_selectors import RANK_SELECTORS
from srr_core.recipe import (
    PRESETS,
    BudgetSpec,
    CalibrationSpec,
    EvaluationSpec,
    EvaluatorSpec,
    QuantizerSpec,
    RankSelectorSpec,
    Recipe,
    RepairSpec,
    ScalingSpec,
    SketchSpec,
)
from srr_core.recipe.evaluations import AnyEvaluationSpec
from srr_core.registry import Registry
from srr_core.scalings import SCALINGS
from tests.architecture.tree import ROOT

FAMILIES = [
    pytest.param(QuantizerSpec, QUANTIZERS, id="quantizers"),
    pytest.param(ScalingSpec, SCALINGS, id="scalings"),
    pytest.param(RankSelectorSpec, RANK_SELECTORS, id="rank_selectors"),
    pytest.param(EvaluatorSpec, EVALUATORS, id="evaluators"),
    pytest.param(AnyEvaluationSpec, EVALUATIONS, id="evaluations"),
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


WORDS = {"name", "title", "reference"}
PARTS: dict[str, type[BaseModel]] = {
    "sketch": SketchSpec,
    "calibration": CalibrationSpec,
    "evaluation": EvaluationSpec,
    "budget": BudgetSpec,
    "repair": RepairSpec,
}
FAMILY_FIELDS = {
    "quantizer": QuantizerSpec,
    "scaling": ScalingSpec,
    "rank_selector": RankSelectorSpec,
    "evaluation.evaluators": EvaluatorSpec,
}


def _fields() -> Iterator[tuple[str, str, str, str]]:
    """Yield path, kind, values and default of every field of a recipe, as a row of the README writes them."""
    for family, union in FAMILY_FIELDS.items():
        for spec in _members(union):
            kind = f"`{spec.model_fields['kind'].default}`"  # type: ignore[attr-defined]
            yield from ((f"`{family}.{name}`", kind, *rest) for name, *rest in _own_fields(spec))
    yield from (
        (f"`{name}`", "", *rest) for name, *rest in _own_fields(Recipe, without=WORDS | {*FAMILY_FIELDS, *PARTS})
    )
    for part, spec in PARTS.items():
        yield from ((f"`{part}.{name}`", "", *rest) for name, *rest in _own_fields(spec))


def _own_fields(spec: type[BaseModel], without: Collection[str] = ("kind",)) -> Iterator[tuple[str, str, str]]:
    for name, schema in spec.model_json_schema()["properties"].items():
        if name not in without:
            yield name, _values(schema), _written(schema["default"])


def _values(schema: dict[str, Any]) -> str:
    """Return what a field takes, in the README's words."""
    if "anyOf" in schema:
        return ", ".join(_values(choice) for choice in schema["anyOf"])
    if schema.get("type") == "array":
        return _values(schema["items"])
    if "discriminator" in schema:
        return ", ".join(f"`{kind}`" for kind in schema["discriminator"]["mapping"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    named = {"boolean": "true, false", "null": "none", "string": "words"}.get(schema.get("type", ""))
    if named is not None:
        return named
    if "exclusiveMaximum" in schema:
        schema = schema | {"maximum": schema["exclusiveMaximum"] - 1}
    if "exclusiveMinimum" in schema:
        return f"above {schema['exclusiveMinimum']:g} to {schema['maximum']:g}"
    if "maximum" not in schema:
        return f"{schema.get('minimum')} or more"
    return f"{_written(schema['minimum'])} to {_written(schema['maximum'])}"


def _written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_written(item) for item in value) or "none"
    if isinstance(value, dict):
        return f"`{value['kind']}`"
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_field_of_a_recipe_has_its_row_with_its_values_and_default() -> None:
    rows = {tuple(cell.strip() for cell in row.split("|")[1:5]) for row in _table_rows() if row.count("|") == 6}
    documented = {row for row in rows if row[0].startswith("`") and row[2] and row[2] != "words"}

    fields = set(_fields())

    assert fields - documented == set()
    assert {row[:2] for row in documented if row[0].split(".")[0].strip("`") in Recipe.model_fields} == {
        field[:2] for field in fields
    }


def test_every_field_of_an_evaluator_has_its_row_with_its_values_and_default() -> None:
    rows = {tuple(cell.strip() for cell in row.split("|")[1:4]) for row in _table_rows()}
    specs = {spec.model_fields["kind"].default: spec for spec in _members(AnyEvaluationSpec)}  # type: ignore[attr-defined]
    fields = {(f"`{kind}.{name}`", *rest) for kind, spec in specs.items() for name, *rest in _own_fields(spec)}

    assert fields - rows == set()
    assert {row[0] for row in rows if row[0].strip("`").split(".")[0] in specs and "." in row[0]} == {
        field[0] for field in fields
    }
