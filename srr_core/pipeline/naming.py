"""The layers of a plan, as the adapter and the artifact's configuration name them."""

from srr_core.checkpoint.expert_names import RENAMED, expert_name, stacked_part
from srr_core.formats.expert_factors import ExpertPart, expert_parts
from srr_core.models.layers import LayerPlan


def renamed_paths(layers: LayerPlan) -> dict[str, str]:
    """Return the paths in the model of layers and mixtures whose names in the files are others, by these."""
    paths = {}
    for layer in layers.layers:
        if layer.is_stacked:
            continue
        found = expert_name(layer.name)
        if layer.expert is None or found is None:
            if layer.module != layer.name:
                paths[layer.name] = layer.module
        elif layer.expert.adapter_name != found.owner.replace(*RENAMED):
            paths[found.owner] = layer.expert.adapter_name
    return paths


def mixture_parts(layers: LayerPlan) -> dict[str, ExpertPart]:
    """Return where the factors of every expert lie. Raises ExportError for projections of an unknown kind."""
    return expert_parts((layer.name for layer in layers.layers), renamed_paths(layers))


def stacks(layers: LayerPlan) -> dict[str, bool]:
    """Return the stacked parameters of our own layout, each with whether its matrices are [inputs, outputs]."""
    parts = ((stacked_part(layer.name), layer.is_transposed) for layer in layers.layers)
    return {part.parameter: is_transposed for part, is_transposed in parts if part is not None}
