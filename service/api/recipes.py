"""The named recipes over REST."""

from fastapi import APIRouter

from service.api.schemas import RecipeList, RecipeResource
from srr_core.recipe import DEFAULT_RECIPE, PRESETS, Recipe

router = APIRouter(prefix="/v1/recipes", tags=["recipes"])


def recipe_resource(recipe: Recipe) -> RecipeResource:
    """Return a named recipe as clients see it."""
    return RecipeResource(
        name=recipe.name,
        title=recipe.title,
        reference=recipe.reference,
        num_bits=recipe.quantization_bits,
        quantizer_bits_per_weight=recipe.quantizer.bits_per_weight,
        rank=recipe.rank,
        is_default=recipe.name == DEFAULT_RECIPE,
        digest=recipe.digest(),
        recipe=recipe,
    )


@router.get("", operation_id="listRecipes", summary="List the named recipes")
def list_recipes() -> RecipeList:
    """Return every recipe that a job may name, with all its options."""
    return RecipeList(recipes=[recipe_resource(recipe) for recipe in PRESETS.values()])
