"""What a caller sends to make or change a watch."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.releases.schema import Glob, WatchRules
from srr_core.recipe import DEFAULT_RECIPE, parse_recipe


class WatchBody(BaseModel):
    """What to look for, and what to do about it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "our models", "pattern": "org/*", "destination": "org/{name}-{recipe}-{total_bits}bit"}
            ]
        },
    )

    name: str = Field(min_length=1, max_length=100)
    pattern: str = Field(
        max_length=96,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9*?][A-Za-z0-9*?._-]*$",
        description="owner/model, where the model may hold * and ?; the owner may not.",
    )
    namespace: Annotated[str, Field(pattern="^(org|user)$", description="What the owner is on the Hub.")] = "org"
    branches: tuple[Glob, ...] = Field(default=("main",), max_length=16)
    tags: tuple[Glob, ...] = Field(default=(), max_length=16)
    recipes: tuple[str | dict[str, Any], ...] = Field(
        default=(DEFAULT_RECIPE,), min_length=1, max_length=8, description="Names or objects, as in a job."
    )
    destination: str = Field(
        max_length=200,
        description="Template of the repository, of {owner}, {name}, {recipe}, {bits} of the codes, {total_bits} over "
        "the whole model and {ref}, as they stand.",
    )
    private: bool | None = Field(default=None, description="Null: as private as the source.")
    acknowledge_license: bool = Field(
        default=False, description="The terms of these models were read and allow this, whatever their cards state."
    )
    max_weight_bytes: int | None = Field(default=None, gt=0, lt=2**53, description="Larger models are skipped.")
    per_day: int = Field(default=10, ge=1, le=10_000, description="Releases acted on in 24 hours; the rest waits.")
    enabled: bool = True


def rules_of(body: WatchBody) -> WatchRules:
    """Return the rules a body stands for.

    Raises:
        RecipeError: a recipe is unknown or out of range.
    """
    recipes = tuple(parse_recipe(recipe) for recipe in body.recipes)
    return WatchRules.model_validate({**body.model_dump(exclude={"recipes"}), "recipes": recipes})
