"""What a recipe is aimed at: grid, group, symmetry and rank as a runtime takes them, or a refusal with what would do.

A recipe says `target`; what it leaves open is chosen so that the runtime takes the result of a model of usual shapes.
When the shapes of the model are known, the same question is asked again, before any work.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

from srr_core.errors import RecipeError
from srr_core.recipe.compatibility import GPTQ, TRANSFORMERS, compatibility
from srr_core.recipe.gguf_types import GGUF_WINDOWS, LLAMA_CPP, PLAIN_ROPE
from srr_core.recipe.recipe import Recipe, Target
from srr_core.recipe.servers import HUMMING, MARLIN, SGLANG, VLLM_LORA, VLLM_PLUGIN
from srr_core.recipe.verdicts import Shape

NEEDS: Mapping[Target, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "any": (),
        "srr": (),
        "transformers": ((TRANSFORMERS,),),
        "vllm": ((MARLIN, HUMMING), (VLLM_PLUGIN, VLLM_LORA)),
        "sglang": ((SGLANG,),),
        "llama.cpp": ((LLAMA_CPP,),),
        "gptq": ((GPTQ,),),
    }
)
"""Rows of the matrix, one of each group of which must not be a no."""
FAST_SERVERS = (MARLIN, HUMMING, SGLANG)
"""Servers that keep Q packed as we write it; llama.cpp takes an export."""
TRIED_BITS = (4, 8, 3)
TRIED_GROUPS = (32, 64, 128)
TRIED_RANKS = (512, 256, 128, 64, 32)
_OTHER_RECIPE = "A recipe whose codes lie on a uniform grid would do, such as gptq, srr or srr-gptq"
_DEARER = {"num_bits": 100, "rank": 10}
"""What a change costs in the choice of a variant; every other field costs one."""


@dataclass(frozen=True)
class Model:
    """What of a model decides whether a runtime takes it; by default a model of usual shapes."""

    shapes: Collection[Shape] = ((4096, 4096),)
    architecture: str = "LlamaForCausalLM"
    rope: str = PLAIN_ROPE
    all_linear: bool = True
    has_experts: bool = False


USUAL = Model()


def obstacle(recipe: Recipe, model: Model = USUAL) -> str | None:
    """Return why the recipe's target does not take the result, or None."""
    needs = NEEDS[recipe.target]
    if not needs:
        return None
    rows = {
        row.runtime: row
        for row in compatibility(
            recipe,
            model.shapes,
            architecture=model.architecture,
            rope=model.rope,
            all_linear=model.all_linear,
            has_experts=model.has_experts,
        )
    }
    for group in needs:
        found = [rows[name] for name in group]
        if all(row.verdict == "no" for row in found):
            return "; ".join(f"{row.runtime}: {row.reason}" for row in found)
    return None


def aimed(recipe: Recipe, stated: Iterable[str]) -> Recipe:
    """Return a recipe whose open fields are chosen for its target.

    Args:
        stated: Dotted paths of what the user wrote; these are not changed.
    Raises:
        RecipeError: with these fields the target takes no result; the message names what would do.
    """
    reason = obstacle(recipe)
    if reason is None:
        return recipe
    fixed = tuple(stated)
    changes = _cheapest(recipe, USUAL, fixed=fixed)
    if changes is None:
        raise _refusal(recipe, USUAL, reason)
    return _changed(recipe, changes)


def unserved(recipe: Recipe, model: Model) -> str | None:
    """Return what to say before the work where nothing but our runtime keeps the result packed; else None."""
    rows = compatibility(
        recipe,
        model.shapes,
        architecture=model.architecture,
        rope=model.rope,
        all_linear=model.all_linear,
        has_experts=model.has_experts,
    )
    if any(row.runtime in FAST_SERVERS and row.verdict != "no" for row in rows):
        return None
    return (
        "no server takes this result packed: vLLM and SGLang refuse it, srr_core.runtime alone keeps it packed; a "
        "target in the recipe chooses what one of them takes"
    )


def require_target(recipe: Recipe, model: Model) -> None:
    """Check, with the shapes of the model known, that the recipe's target takes the result.

    Raises:
        RecipeError: it does not; the message names what would do.
    """
    reason = obstacle(recipe, model)
    if reason is not None:
        raise _refusal(recipe, model, reason)


def _refusal(recipe: Recipe, model: Model, reason: str) -> RecipeError:
    changes = _cheapest(recipe, model, fixed=())
    advice = (
        "This would do: " + " ".join(f"{path}={_spelt(value)}" for path, value in changes.items())
        if changes
        else _OTHER_RECIPE
        if recipe.quantizer.uniform_grid is None
        else "No choice of bits, group, symmetry and rank would do; choose another target"
    )
    return RecipeError(f"target {recipe.target}: {reason}. {advice}.")


def _cheapest(recipe: Recipe, model: Model, *, fixed: Collection[str]) -> dict[str, Any] | None:
    for changes in sorted(_candidates(recipe, fixed), key=_cost):
        if obstacle(_changed(recipe, changes), model) is None:
            return changes
    return None


def _candidates(recipe: Recipe, fixed: Collection[str]) -> Iterator[dict[str, Any]]:
    prefix = ".".join(("quantizer", *recipe.quantizer.grid_path))
    options = recipe.quantizer.grid_options.model_dump()
    if recipe.quantizer.uniform_grid is None:
        return
    tried: dict[str, tuple[Any, ...]] = {f"{prefix}.num_bits": TRIED_BITS, "rank": TRIED_RANKS}
    group = recipe.quantizer.grid_options.group_field
    if group == "block_size":
        tried |= {f"{prefix}.{group}": (32,), f"{prefix}.exponent_window": tuple(sorted(set(GGUF_WINDOWS.values())))}
    elif group is not None:
        tried |= {f"{prefix}.{group}": TRIED_GROUPS, f"{prefix}.symmetric": (True,)}
    choices = []
    for path, values in tried.items():
        now = recipe.rank if path == "rank" else options[path.rpartition(".")[2]]
        others = [value for value in values if value != now and not (path == "rank" and value > now)]
        is_fixed = any(path == stated or path.startswith(f"{stated}.") for stated in fixed)
        choices.append([{}] if is_fixed else [{}, *({path: value} for value in others)])
    for parts in product(*choices):
        yield {path: value for part in parts for path, value in part.items()}


def _cost(changes: Mapping[str, Any]) -> int:
    return sum(_DEARER.get(path.rpartition(".")[2], 1) for path in changes)


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    data = recipe.model_dump(mode="json")
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = data
        for parent in parents:
            place = place[parent]
        place[last] = value
    return Recipe.model_validate(data)


def _spelt(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
