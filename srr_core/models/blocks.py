"""Where the repeated blocks of a model are: one list of them, or several that it goes through one after the other."""

from collections.abc import Iterator, Sequence
from itertools import chain

from torch import nn
from transformers import PreTrainedModel

from srr_core.errors import UnsupportedModelError
from srr_core.models.inputs import reads_in_halves

MIN_BLOCKS = 1
Blocks = tuple[tuple[str, nn.Module], ...]
"""Paths and modules."""
_Stack = tuple[str, nn.ModuleList]


def find_blocks(model: PreTrainedModel) -> Blocks:
    """Return the blocks of a model in the order in which it calls them, as far as its structure tells that order.

    An encoder-decoder has a list of blocks on each side. Lists of the same length that lie side by side are taken
    by turns, as those of a model are that keeps attention and feed-forward layers apart.

    Raises:
        UnsupportedModelError: it has no such list, or several and nothing says which are the text's.
    """
    if reads_in_halves(model):
        stacks = [stack for part in (_encoder(model), _decoder(model)) for stack in _stacks_of_text(model, part)]
        if len({id(modules) for _, modules in stacks}) < len(stacks):
            raise UnsupportedModelError(
                f"{type(model).__name__} keeps encoder and decoder where they cannot be told apart"
            )
    else:
        stacks = _stacks_of_text(model, model)
    return tuple(_in_order(stacks))


def _stacks_of_text(model: PreTrainedModel, part: nn.Module) -> list[_Stack]:
    within = set(map(id, part.modules()))
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if id(module) in within
        and isinstance(module, nn.ModuleList)
        and len(module) >= MIN_BLOCKS
        and _holds_blocks(module)
    ]
    outermost = [(path, module) for path, module in lists if not _is_inside(path, lists)]
    config = getattr(part, "config", model.config)
    text = config.get_text_config()
    stacks = [stack for stack in outermost if len(stack[1]) == getattr(text, "num_hidden_layers", None)]
    if len(stacks) > 1 and not _are_beside(stacks):
        # A tower for images may be as deep as the language model; the class itself knows which one that is.
        decoder = set(map(id, _decoder(part).modules()))
        stacks = [(path, module) for path, module in stacks if id(module) in decoder] or stacks
    if not stacks and (len(outermost) == 1 or text is config):
        # Repeated blocks are fewer than the depth, and several lists may make it up. Without towers all are the text's.
        stacks = outermost
    if not stacks or (len(stacks) > 1 and text is not config):
        kind = "no repeated block list" if not stacks else f"{len(stacks)} block lists"
        raise UnsupportedModelError(f"{type(model).__name__} has {kind}; one stack of repeated blocks is needed")
    return stacks


def _in_order(stacks: Sequence[_Stack]) -> Iterator[tuple[str, nn.Module]]:
    if len(stacks) > 1 and _are_beside(stacks):
        yield from chain.from_iterable(zip(*(_members(*stack) for stack in stacks), strict=True))
        return
    for path, modules in stacks:
        yield from _members(path, modules)


def _members(path: str, modules: nn.ModuleList) -> Iterator[tuple[str, nn.Module]]:
    for number, module in enumerate(modules):
        if isinstance(module, nn.ModuleList):
            yield from _members(f"{path}.{number}", module)
        else:
            yield f"{path}.{number}", module


def _are_beside(stacks: Sequence[_Stack]) -> bool:
    return len({(path.rpartition(".")[0], len(modules)) for path, modules in stacks}) == 1


def _encoder(model: nn.Module) -> nn.Module:
    return _asked(model, "get_encoder")


def _decoder(model: nn.Module) -> nn.Module:
    found = _asked(model, "get_decoder")
    return model if found is model else _decoder(found)  # a wrapper names its language model, which has more to say


def _asked(model: nn.Module, method: str) -> nn.Module:
    try:
        found = getattr(model, method)()
    except (AttributeError, TypeError, ValueError, NotImplementedError):
        return model
    return found if isinstance(found, nn.Module) else model


def _holds_blocks(modules: nn.ModuleList) -> bool:
    """Whether a list is of blocks, maybe of several classes, and not of single layers."""
    return all(
        any(True for _ in module.children()) and any(parameter.dim() >= 2 for parameter in module.parameters())
        for module in modules
    )


def _is_inside(path: str, lists: Sequence[_Stack]) -> bool:
    return any(path.startswith(f"{other}.") for other, _ in lists if other != path)
