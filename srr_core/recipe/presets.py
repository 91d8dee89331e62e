"""The methods of the literature and ours, each a named recipe."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from srr_core.errors import RecipeError
from srr_core.recipe.budget import TARGETS, BudgetSpec
from srr_core.recipe.complaints import complaints
from srr_core.recipe.quantizers import GPTQSpec, IntegerSpec, LearnedSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec
from srr_core.recipe.rank_selectors import AlignedSpec, FixedSpec, SpectralSpec, VerifiedSpec
from srr_core.recipe.recipe import Baseline, Recipe
from srr_core.recipe.repair import RepairSpec
from srr_core.recipe.scalings import AutocorrelationSpec, DiagonalSpec, IdentitySpec, LQERSpec
from srr_core.recipe.targets import aimed

_SERVED = IntegerSpec(num_bits=4, group_size=64, symmetric=True)
"""A grid that stock transformers, vLLM, SGLang, llama.cpp and GPTQ kernels all take, of mixtures too. On the demo model
zero points buy nothing at 4 bits: in groups of 128, perplexity 39.59 with them (4.16 bits) and 39.55 without (4.13)."""
_NOTHING = FixedSpec(fraction=0.0)
_EVERYTHING = FixedSpec(fraction=1.0)
_EXACT = AutocorrelationSpec()
_BESIDE: Final[tuple[Baseline, ...]] = ("weight-only", "gptq")
"""Of the recipes that are meant for use: what they take longer pays only where these do worse at the same bits."""
_QERA = "Zhang et al., QERA, arXiv:2410.06040"
_SRR = "SRR, arXiv:2602.02001"

_RECIPES = (
    Recipe(
        name="weight-only",
        title="Round to nearest, no correction",
        reference="baseline of every table",
        scaling=IdentitySpec(),
        rank=0,
        rank_selector=_NOTHING,
    ),
    Recipe(
        name="zeroquant-v2",
        title="Low-rank correction of the plain error",
        reference="Yao et al., ZeroQuant-V2, arXiv:2303.08302",
        scaling=IdentitySpec(),
        rank_selector=_NOTHING,
    ),
    Recipe(
        name="lqer",
        title="Correction scaled by the mean magnitude of the inputs",
        reference="Zhang et al., LQER, arXiv:2402.02446",
        scaling=LQERSpec(),
        rank_selector=_NOTHING,
    ),
    Recipe(
        name="qera-approx",
        title="Correction scaled by the root mean square of the inputs",
        reference=_QERA,
        scaling=DiagonalSpec(),
        rank_selector=_NOTHING,
    ),
    Recipe(
        name="qera-exact",
        title="Correction that is optimal for the output error of the layer",
        reference=_QERA,
        scaling=_EXACT,
        rank_selector=_NOTHING,
    ),
    Recipe(
        name="srr-paper",
        title="Preserve k*, quantize, reconstruct with the rest of the rank",
        reference=_SRR,
        rank_selector=SpectralSpec(),
        reconstruct="concat",
    ),
    Recipe(
        name="srr",
        title="Preserve k*, quantize, refit the whole rank",
        reference=f"{_SRR}, with a joint refit",
        rank_selector=SpectralSpec(),
    ),
    Recipe(
        name="srr-naive",
        title="Preserve with the whole rank, then refit it",
        reference="Preserve then Quantize, workshop slides (2026)",
        rank_selector=_EVERYTHING,
    ),
    Recipe(
        name="srr-aligned",
        title="Preserve the directions that lead by both scores, refit the whole rank",
        reference="Preserve then Quantize, workshop slides (2026)",
        rank_selector=AlignedSpec(),
    ),
    Recipe(
        name="srr-verified",
        title="The best of k = 0, k* and r by the true error",
        reference=f"{_SRR}, with the choice checked",
        rank_selector=VerifiedSpec(),
    ),
    Recipe(
        name="srr-iterative",
        title="Five rounds of quantize and refit, the best one kept",
        reference=f"{_SRR}, iterated as in the workshop slides",
        rank_selector=SpectralSpec(),
        iterations=5,
    ),
    Recipe(
        name="srr-max",
        title="Error feedback inside every round, the best round kept",
        reference=f"{_SRR}, with GPTQ (arXiv:2210.17323) on the same grid",
        quantizer=GPTQSpec(grid=MXIntSpec()),
        rank_selector=_EVERYTHING,
        iterations=5,
    ),
    Recipe(
        name="qlora",
        title="NormalFloat alone; the adapter trained on it starts at zero",
        reference="Dettmers et al., QLoRA, arXiv:2305.14314",
        quantizer=NormalFloatSpec(),
        scaling=IdentitySpec(),
        rank=0,
        rank_selector=_NOTHING,
    ),
    Recipe(
        name="loftq",
        title="Alternate NormalFloat and a low-rank part of the plain error",
        reference="Li et al., LoftQ, arXiv:2310.08659",
        quantizer=NormalFloatSpec(),
        scaling=IdentitySpec(),
        rank_selector=_NOTHING,
        iterations=5,
        keep_best=False,
    ),
    Recipe(
        name="lq-lora",
        title="Alternate a low-rank part and the quantized rest",
        reference="Guo et al., LQ-LoRA, arXiv:2311.12023",
        rank_selector=_EVERYTHING,
        reconstruct="preserve",
        iterations=5,
        keep_best=False,
    ),
    Recipe(
        name="svdquant-style",
        title="Take out the leading directions, quantize the rest",
        reference="Li et al., SVDQuant, arXiv:2411.05007 (weights only)",
        rank_selector=_EVERYTHING,
        reconstruct="concat",
    ),
    Recipe(
        name="gptq",
        title="Error feedback while rounding, no correction",
        reference="Frantar et al., GPTQ, arXiv:2210.17323",
        quantizer=GPTQSpec(grid=_SERVED),
        rank=0,
        rank_selector=_NOTHING,
    ),
    Recipe(
        name="srr-gptq",
        title="Preserve, GPTQ on the rest, refit; three rounds",
        reference=f"{_SRR}, on GPTQ",
        quantizer=GPTQSpec(grid=_SERVED),
        rank_selector=_EVERYTHING,
        iterations=3,
    ),
    Recipe(
        name="srr-learned",
        title="Preserve, then learn rounding, ranges and L·R against the output of each block",
        reference=f"{_SRR}, with SignRound (arXiv:2309.05516)",
        quantizer=LearnedSpec(grid=IntegerSpec(num_bits=3, group_size=64)),
        rank=8,
        rank_selector=_EVERYTHING,
        baselines=_BESIDE,
    ),
    Recipe(
        name="srr-fast",
        title="GPTQ, every layer with bits and groups of its own",
        reference="Frantar et al., GPTQ, arXiv:2210.17323; settings by the Fisher information of the outputs",
        quantizer=GPTQSpec(grid=IntegerSpec(num_bits=3, group_size=64)),
        rank=0,
        rank_selector=_EVERYTHING,
        budget=BudgetSpec(target_bits=3.3),
        baselines=_BESIDE,
    ),
    Recipe(
        name="srr-best",
        title="Settings by budget, rounding and L·R learned by block, then scales and L·R learned end to end",
        reference=f"{_SRR}, with SignRound (arXiv:2309.05516) and distillation (arXiv:1503.02531)",
        quantizer=LearnedSpec(grid=IntegerSpec(num_bits=3, group_size=64)),
        rank=0,
        rank_selector=_EVERYTHING,
        budget=BudgetSpec(target_bits=3.3, ranks=(0, 8)),
        repair=RepairSpec(),
        baselines=_BESIDE,
    ),
    Recipe(
        name="quip-sharp",
        title="Incoherence and a lattice codebook, no correction",
        reference="Tseng et al., QuIP#, arXiv:2402.04396",
        quantizer=QuIPSharpSpec(num_bits=2),
        rank=0,
        rank_selector=_NOTHING,
    ),
    Recipe(
        name="srr-quip-sharp",
        title="Preserve, QuIP# on the rest, refit",
        reference=f"{_SRR}, on QuIP#",
        quantizer=QuIPSharpSpec(num_bits=2),
        rank_selector=SpectralSpec(),
    ),
)

PRESETS: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _RECIPES})
SLIP_RATIO = 0.75
"""How like a preset's name another one is that was meant to be it; difflib's ratio."""
METHOD_FIELDS = frozenset({"quantizer", "scaling", "rank_selector"})
DEFAULT_RECIPE = "gptq"
"""What the service proposes: the recipe with the lowest divergence in BENCHMARKS.md of those whose result every server
takes packed. DECISIONS.md 18 says which are closer to the source, and why they are not proposed to everybody."""


def named_recipe(name: str) -> Recipe:
    """Return a named recipe.

    Raises:
        RecipeError: no recipe has this name; the message lists those that exist.
    """
    try:
        return PRESETS[name]
    except KeyError:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise RecipeError(f"unknown recipe {name!r}.{hint} Known recipes: {', '.join(PRESETS)}.") from None


def parse_recipe(value: str | Mapping[str, Any]) -> Recipe:
    """Return the recipe a user wrote: a name, or an object with an optional `name` to start from.

    An object that names a preset and gives other fields is that preset with these fields replaced;
    nested objects are merged, unless they change their `kind`. Under any other name it starts from the defaults.

    Raises:
        RecipeError: an unknown name, an unknown field or a value out of range; a name so near that of a preset that
            it must be a slip, in an object that leaves part of the method to the defaults; a target that does not take
            what the object says.
    """
    if isinstance(value, str):
        return named_recipe(value)
    name = str(value.get("name", ""))
    if name in PRESETS:
        return aimed(_validated(merged(PRESETS[name].model_dump(mode="json"), _one_target(value))), _paths(value))
    close = difflib.get_close_matches(name, PRESETS, n=1, cutoff=SLIP_RATIO)
    if close and not value.keys() >= METHOD_FIELDS:
        raise RecipeError(
            f"no recipe is called {name!r}. Did you mean {close[0]!r}? A recipe of your own needs a name less like it, "
            f"or all of {', '.join(sorted(METHOD_FIELDS))}."
        )
    return aimed(_validated(value), _paths(value))


def override(recipe: Recipe, assignments: Mapping[str, Any]) -> Recipe:
    """Return a recipe with dotted fields replaced, as `--set quantizer.num_bits=2` writes them.

    Raises:
        RecipeError: a path that leads nowhere, a value out of range, or one that the recipe's target does not take.
    """
    changes: dict[str, Any] = {}
    # A kind first: it replaces what was said of another kind, whatever the order they were written in.
    for path, value in sorted(assignments.items(), key=lambda item: not item[0].endswith("kind")):
        patch: Any = value
        for part in reversed(path.split(".")):
            patch = {part: patch}
        changes = merged(changes, patch)
    data = merged(recipe.model_dump(mode="json"), _one_target(changes))
    return aimed(_validated(data), assignments)


def _one_target(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return changes in which a target of the budget takes the place of the recipe's own, whichever that is."""
    budget = changes.get("budget")
    if not isinstance(budget, Mapping) or not any(budget.get(name) is not None for name in TARGETS):
        return changes
    return {**changes, "budget": {**dict.fromkeys(TARGETS), **budget}}


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Return what options such as `--set rank=16` say, for `override`; values are JSON where they can be, else words.

    Raises:
        RecipeError: an assignment without `=`.
    """
    return dict(_assignment(text) for text in assignments)


def _assignment(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {text!r} is not PATH=VALUE, for instance rank=16")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


def _paths(value: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted path of everything an object says."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from (f"{key}.{path}" for path in _paths(inner))
        else:
            yield str(key)


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with fields replaced, nested ones one by one, unless their `kind` changes."""
    result = dict(base)
    for key, value in patch.items():
        before = result.get(key)
        if (
            isinstance(before, Mapping)
            and isinstance(value, Mapping)
            and value.get("kind", before.get("kind")) == before.get("kind")
        ):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def _validated(data: Mapping[str, Any]) -> Recipe:
    try:
        return TypeAdapter(Recipe).validate_python(data)
    except ValidationError as error:
        raise RecipeError(f"invalid recipe: {describe_validation(error)}") from error


def describe_validation(error: ValidationError) -> str:
    """Return one line naming each wrong field of a recipe, what it must be, and what was given."""
    return complaints(error, Recipe, whole="recipe")
