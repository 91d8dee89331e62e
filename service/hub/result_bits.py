"""The bits a result will have over the whole model, from headers alone: what repositories are named by."""

import math

from service.hub.model import ResolvedModel
from service.hub.weights import Weights
from srr_core.recipe import Recipe

PLAIN_SHAPE = (4096, 4096)
"""A layer to tell bits by where no model is known: the attention of a 7B model, for instance."""


def bits_of_result(recipe: Recipe, model: ResolvedModel, weights: Weights) -> float:
    """Return the bits per weight over all weights of a model once it is compressed, kept ones included."""
    return 8 * bytes_of_result(recipe, model, weights) / max(weights.parameters, 1)


def bytes_of_result(recipe: Recipe, model: ResolvedModel, weights: Weights) -> float:
    """Return the bytes of all weight files of a result, padding left out."""
    return compressed_bits(recipe, model, weights) / 8 + kept_bytes(model, weights)


def compressed_bits(recipe: Recipe, model: ResolvedModel, weights: Weights) -> float:
    """Return the bits of the compressed weights: what a budget has for them, or what each layer takes."""
    shapes = weights.anatomy.shapes
    if recipe.budget is not None:
        size = sum(math.prod(shape) for shape in shapes)
        bits = recipe.budget.bits(weights=size, kept_bytes=kept_bytes(model, weights))
        if bits is not None:
            return bits
    return sum(recipe.bits_per_weight(*shape) * math.prod(shape) for shape in shapes)


def kept_bytes(model: ResolvedModel, weights: Weights) -> int:
    """Return the bytes of the weights that stay as they are, as if all were stored alike."""
    compressed = sum(math.prod(shape) for shape in weights.anatomy.shapes)
    return round(model.weight_bytes * (1 - compressed / max(weights.parameters, 1)))


def plain_bits(recipe: Recipe) -> float:
    """Return the bits of a wide layer, for a model that is not known."""
    if recipe.budget is not None and recipe.budget.target_bits is not None:
        return recipe.budget.target_bits
    return recipe.bits_per_weight(*PLAIN_SHAPE)


def bits_label(bits: float) -> str:
    """Return bits as the name of a repository has them: one decimal."""
    return f"{bits:.1f}"
