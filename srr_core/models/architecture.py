"""A stock transformers model without its weights: where the blocks are and which tensor belongs where."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.initialization import no_init_weights
from transformers.modeling_utils import LoadStateDictConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from srr_core.checkpoint.index import read_json
from srr_core.errors import CheckpointError, UnsupportedModelError
from srr_core.models.blocks import find_blocks
from srr_core.models.inputs import reads_in_halves
from srr_core.models.placement import Places
from srr_core.recipe.architectures import PREDICTORS, WINDOW_FIELDS
from srr_core.recipe.sizes import check_sizes
from srr_core.recipe.stored_schemes import check_quantization

NO_LIMIT = -1
"""What models whose positions are relative give as their longest window."""
_LARGE = 2**24
"""Numbers in a tensor. Buffers that get their values later are smaller by far."""
MIN_WINDOW = 2
"""Tokens; with fewer there is no next token to predict."""


class Architecture:
    """A model built from its configuration alone, with parameters on the meta device and buffers real.

    Only classes of the transformers library are built; code from the checkpoint is never run.

    Args:
        directory: A checkpoint folder; only config.json is read.
    Raises:
        UnsupportedModelError: the model cannot be compressed; the message says why.
        CheckpointError: config.json is missing or damaged.
    """

    def __init__(self, directory: Path) -> None:
        config = read_json(directory / "config.json")
        self.name = check_supported(config)
        self.model = _build(directory, self.name)
        self.blocks = find_blocks(self.model)
        """Paths and modules, in the order in which the model calls them."""
        self.places = Places(self.model)

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the model."""
        return self.model.config

    @property
    def predicts_tokens(self) -> bool:
        """Whether the model has a head over its vocabulary, for the next token or for masked ones."""
        return self.name.endswith(PREDICTORS) or (self.is_encoder_decoder and self._generates)

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model reads one text and predicts another."""
        return reads_in_halves(self.model)

    @property
    def is_causal_lm(self) -> bool:
        """Whether the model predicts the next token of the text that it reads.

        The families of encoders have such classes too, which see the next token unless they are made decoders.
        """
        is_encoder = self.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        if self.is_encoder_decoder or (is_encoder and not getattr(self.config, "is_decoder", False)):
            return False
        return self._generates

    @property
    def has_perplexity(self) -> bool:
        """Whether the model predicts tokens from those before them, and maybe from what an encoder has read."""
        return self.is_causal_lm or (self.is_encoder_decoder and self._generates)

    @property
    def _generates(self) -> bool:
        return bool(self.model.can_generate()) and self.model.get_output_embeddings() is not None  # type: ignore[no-untyped-call]  # of transformers

    @property
    def max_sequence_length(self) -> int | None:
        """The longest window the model was made for, when its configuration says so.

        Raises:
            UnsupportedModelError: the configuration gives a length that no text fits into.
        """
        text = self.config.get_text_config()
        field = next((name for name in WINDOW_FIELDS if getattr(text, name, None) is not None), None)
        if field is None:
            return None
        value = getattr(text, field)
        if value == NO_LIMIT:
            return None
        if type(value) is not int or value - self._padding_positions() < MIN_WINDOW:
            raise UnsupportedModelError(
                f"config.json gives {field} as {value!r}, which leaves no room for two tokens; give the length "
                "the model was trained for"
            )
        return value - self._padding_positions()

    @property
    def vocabulary_rows(self) -> int | None:
        """Rows of the embedding of tokens, where the class says which one that is."""
        try:
            embedding = self.model.get_input_embeddings()
        except NotImplementedError:
            return None
        weight = getattr(embedding, "weight", None)
        return int(weight.shape[0]) if isinstance(weight, Tensor) and weight.dim() > 1 else None

    def _padding_positions(self) -> int:
        # RoBERTa-like embeddings count positions from behind the row that padding has.
        rows = (
            getattr(module, "padding_idx", None)
            for path, module in self.model.named_modules()
            if path.rpartition(".")[2] == "position_embeddings"
        )
        return max((row + 1 for row in rows if row is not None), default=0)

    def load(self, weights: Mapping[str, Tensor], names: Iterable[str], *, device: torch.device) -> None:
        """Fill the parameters that these tensors of a checkpoint belong to, in float32.

        Raises:
            CheckpointError: a tensor has the wrong shape, or a needed one is missing.
        """
        state = {name: _Lazy(weights, name) for name in names}
        # Conversions remember what they have collected, so every load takes fresh ones.
        mapping: list[Any] = list(get_model_conversion_mapping(self.model))
        settings = LoadStateDictConfig(device_map={"": device}, dtype=torch.float32, weight_mapping=mapping)
        with silent_loading():
            info, _ = convert_and_load_state_dict_in_model(self.model, state, settings)
        self.model.requires_grad_(False)
        problems = [*info.error_msgs, *(str(value) for value in info.conversion_errors.values())]
        problems += [
            f"{name} has shape {list(found)}, expected {list(wanted)}" for name, found, wanted in info.mismatched_keys
        ]
        if problems:
            raise CheckpointError(f"the checkpoint does not fit {self.name}: {problems[0]}")

    def tie(self) -> None:
        """Let parameters that the class shares be one, where the checkpoint holds one of them or the same twice.

        A file may hold a head of its own though the configuration says that it is tied; stock loaders keep it then.
        """
        for target, source in self.model.all_tied_weights_keys.items():
            pair = [self.model.get_parameter_or_buffer(name) for name in (target, source)]
            loaded = [parameter for parameter in pair if not parameter.is_meta]
            if len(loaded) == 1 or (len(loaded) == 2 and torch.equal(loaded[0], loaded[1].to(loaded[0].device))):
                for name in (target, source):
                    path, _, leaf = name.rpartition(".")
                    setattr(self.model.get_submodule(path), leaf, loaded[-1])

    def compute(self, *, device: torch.device) -> None:
        """Let the class make parameters that it needs in no file, such as tables of sines, as stock loaders do."""
        optional = [re.compile(pattern) for pattern in self.model._keys_to_ignore_on_load_missing or ()]  # noqa: SLF001  # transformers has no public name for it
        for path, module in self.model.named_modules():
            own = dict(module.named_parameters(recurse=False))
            names = [f"{path}.{name}" for name in own]
            if own and all(p.is_meta for p in own.values()) and all(any(o.search(n) for o in optional) for n in names):
                for name, parameter in own.items():
                    values = torch.empty_like(parameter, device=device)
                    setattr(module, name, nn.Parameter(values, requires_grad=False))
                self.model._init_weights(module)  # type: ignore[no-untyped-call]  # noqa: SLF001  # as above

    @property
    def head(self) -> Any:
        """The module that turns hidden states into logits, or None; some classes name an embedding in its place."""
        found: Any = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]  # of transformers
        if isinstance(found, nn.Embedding):
            shape = found.weight.shape
            linears = (module for module in self.model.modules() if isinstance(module, nn.Linear))
            return next((module for module in linears if module.weight.shape == shape), found)
        return found

    def move_buffers(self, device: torch.device) -> None:
        """Put what belongs to the model but is in no checkpoint, such as positions and masks, on a device."""
        for module in self.model.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, buffer.to(device))

    def require_loaded(self, module: nn.Module, path: str) -> None:
        """Raise CheckpointError when a parameter of a module has not been loaded."""
        missing = [name for name, parameter in module.named_parameters() if parameter.is_meta]
        if missing:
            raise CheckpointError(
                f"the checkpoint lacks {path}.{missing[0]}" if path else f"the checkpoint lacks {missing[0]}"
            )

    @staticmethod
    def unload(module: nn.Module) -> None:
        """Give the memory of a module's parameters back; buffers stay."""
        for child in module.modules():
            for name, parameter in list(child.named_parameters(recurse=False)):
                setattr(child, name, nn.Parameter(parameter.detach().to("meta"), requires_grad=False))


@contextmanager
def silent_loading() -> Iterator[None]:
    """Keep transformers from drawing progress bars and printing load reports; what it finds is returned to us."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers publishes no type
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # the same
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if was_enabled:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # the same


class _Lazy:
    """A tensor that is read when the loader slices it."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        self._weights, self._name = weights, name

    def __getitem__(self, _: Any) -> Tensor:
        return self._weights[self._name]


def check_supported(config: Mapping[str, Any]) -> str:
    """Return the class name of a model that can be compressed, judged by its config.json alone.

    Raises:
        UnsupportedModelError: the model needs its own code, is quantized already, or is of no known class.
    """
    check_sizes(config)
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None
    check_quantization(config)
    if name is None:
        raise UnsupportedModelError("config.json names no architecture, so the model class is unknown")
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        if config.get("auto_map"):
            raise UnsupportedModelError(
                f"{name} needs code from its repository (auto_map), which is never run, and is not a class of "
                f"transformers {transformers.__version__}"
            )
        raise UnsupportedModelError(f"{name} is not a class of transformers {transformers.__version__}")
    return name


class _NothingLarge(TorchFunctionMode):
    """Makes large tensors without values take no memory: a stack of experts has tens of gigabytes.

    accelerate's context moves a parameter to the meta device once it exists, which is too late.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch; `empty` of something large on the meta device."""
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            sizes = args[0] if args and isinstance(args[0], Sequence) else args or kwargs.get("size", ())
            if all(isinstance(size, int) for size in sizes) and math.prod(sizes) > _LARGE:
                kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def _build(directory: Path, name: str) -> PreTrainedModel:
    model_class: Any = getattr(transformers, name)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        config.__dict__.pop("quantization_config", None)  # codes are decoded before the model sees them
        config._attn_implementation = None  # noqa: SLF001  # the class's own choice: never a kernel of a repository
        with no_init_weights(), _NothingLarge(), init_empty_weights(include_buffers=False):
            # Private, but what every AutoModel calls; those know fewer classes than transformers has.
            model = model_class._from_config(config, dtype=torch.float32, experts_implementation="eager").eval()  # noqa: SLF001
    except Exception as error:  # a stranger's configuration fails in whatever way the class likes
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedModelError(f"{name} cannot be built from config.json: {reason}") from error
    stock: PreTrainedModel = model
    stock.requires_grad_(False)
    return stock
