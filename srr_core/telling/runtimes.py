"""Which runtimes load a result that exists: the matrix of recipes, asked with what the report says was written."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from srr_core.recipe import Recipe
from srr_core.recipe.budget import Setting
from srr_core.recipe.compatibility import GPTQ, TRANSFORMERS, compatibility
from srr_core.recipe.gguf_types import PLAIN_ROPE
from srr_core.recipe.verdicts import CompatibilityRow, Verdict
from srr_core.report import Report

_EXPERT = ".experts."
_ORDER: Final[Mapping[Verdict, int]] = MappingProxyType({"yes": 0, "untested": 1, "no": 2})
MIXED = (
    "the layers have bits and groups of their own, which the GPTQ export does not write yet; export gguf or merged "
    "instead"
)


def runtimes(report: Report, *, rope: str = PLAIN_ROPE) -> tuple[CompatibilityRow, ...]:
    """Return a verdict for every runtime. Where layers have settings of their own, the one least taken decides.

    Args:
        rope: Type of the rotary embedding, which the report does not say; see `compatibility.rope_type`.
    """
    found: dict[str, CompatibilityRow] = {}
    for recipe in _written(report):
        for row in _rows(report, recipe, rope):
            if row.runtime not in found or _ORDER[row.verdict] > _ORDER[found[row.runtime].verdict]:
                found[row.runtime] = row
    if report.budget is not None and len(report.budget.settings) > 1:
        found[GPTQ] = CompatibilityRow(runtime=GPTQ, verdict="no", reason=MIXED, evidence="run")
    return tuple(found.values())


def has_experts(report: Report) -> bool:
    """Whether the model routes between experts."""
    return any(_EXPERT in layer.name for layer in report.layers)


def _written(report: Report) -> Iterator[Recipe]:
    """Yield the recipe with each quantizer that layers were written with."""
    if report.budget is None:
        yield report.recipe
        return
    for count in report.budget.settings:
        quantizer = report.recipe.quantizer_of(Setting(count.num_bits, count.group_size))
        yield report.recipe.model_copy(update={"quantizer": quantizer, "rank": report.budget.rank})


def _rows(report: Report, recipe: Recipe, rope: str) -> tuple[CompatibilityRow, ...]:
    def ask(*, all_linear: bool) -> tuple[CompatibilityRow, ...]:
        return compatibility(
            recipe,
            {layer.shape for layer in report.layers},
            architecture=report.source.architecture,
            rope=rope,
            all_linear=all_linear,
            has_experts=has_experts(report),
        )

    rows = ask(all_linear=True)
    is_stock = next(row for row in rows if row.runtime == TRANSFORMERS).verdict == "yes"
    # That weights lie transposed in a model shows in its files alone; the report says how they were written.
    return ask(all_linear=False) if is_stock and report.is_stock is False else rows
