"""What the advanced panel offers of a recipe: every variant with the words for it, and where its options are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from srr_core.recipe import EvaluationSpec, Recipe

GROUP_ROWS: Final = tuple((str(size), str(size)) for size in (16, 32, 64, 128))


@dataclass(frozen=True)
class Variant:
    """One row of a choice: the words for it, and the specification it stands for."""

    title: str
    spec: Mapping[str, Any]


SCALINGS: Final[Mapping[str, Variant]] = {
    "identity": Variant("None: every input counts the same", {"kind": "identity"}),
    "lqer": Variant("Largest mean magnitude of each input (LQER)", {"kind": "lqer"}),
    "diagonal": Variant("Root mean square of each input (QERA, approximate)", {"kind": "diagonal"}),
    "autocorrelation": Variant("Autocorrelation of the inputs (QERA, exact)", {"kind": "autocorrelation"}),
}
RANK_SELECTORS: Final[Mapping[str, Variant]] = {
    "nothing": Variant("Nothing: the whole rank repairs", {"kind": "fixed", "fraction": 0.0}),
    "everything": Variant("Everything: the whole rank preserves", {"kind": "fixed", "fraction": 1.0}),
    "spectral": Variant("k*, by the smallest predicted error (SRR)", {"kind": "spectral"}),
    "aligned": Variant("Directions that lead by both scores", {"kind": "aligned"}),
    "verified": Variant("The best of none, k* and all, each tried", {"kind": "verified"}),
}
TARGETS: Final[Mapping[str, str]] = {
    "transformers": "transformers, without our package",
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llama.cpp": "llama.cpp, by srr export",
    "gptq": "GPTQ kernels, by srr export",
    "srr": "Our own runtime",
}
EVALUATIONS: Final[Mapping[str, str]] = {"on": "Compare with the source", "off": "Leave it out"}


def titles(rows: Mapping[str, Variant]) -> list[tuple[str, str]]:
    """Return the names of rows with the words for each."""
    return [(name, row.title) for name, row in rows.items()]


def bits_path(recipe: Recipe) -> str:
    """Return where a recipe says how many bits a code has."""
    return f"{_grid_path(recipe)}.num_bits"


def group_path(recipe: Recipe) -> str | None:
    """Return where a recipe says how many weights share a scale, or None when its codes have no groups."""
    name = recipe.quantizer.grid_options.group_field
    return None if name is None else f"{_grid_path(recipe)}.{name}"


def group_size(recipe: Recipe) -> int | None:
    """Return how many weights share a scale, or None when the codes have no groups."""
    options = recipe.quantizer.grid_options
    return None if options.group_field is None else int(getattr(options, options.group_field))


def evaluation_of(choice: str, recipe: Recipe) -> dict[str, Any] | None:
    """Return the evaluation that a choice stands for; the recipe's own where it has one."""
    if choice == "off":
        return None
    return (recipe.evaluation or EvaluationSpec()).model_dump()


def row_of(rows: Mapping[str, Variant], spec: Mapping[str, Any]) -> str | None:
    """Return the name of the row a specification is, or None when no row stands for it."""
    return next((name for name, row in rows.items() if dict(row.spec) == dict(spec)), None)


def _grid_path(recipe: Recipe) -> str:
    return ".".join(("quantizer", *recipe.quantizer.grid_path))
