"""A Linear layer whose weight stays packed, in memory as on disk."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from srr_core.errors import CheckpointError
from srr_core.formats.checked import require_finite
from srr_core.formats.codecs import SHAPE_SUFFIX, Codec
from srr_core.kernels.dispatch import choose_path
from srr_core.kernels.paths import Case, MatmulPath
from srr_core.types import QuantizedTensor


class PackedLinear(nn.Linear):
    """y = x·Qᵀ + b with Q as codes; L·R is added by PEFT, which accepts this class because it is an `nn.Linear`.

    It is built with the tensors of the file as its parameters, so that loaders fill it by name, and turned
    once, by `prepare`, into the buffers of the path that serves it. State dicts always hold the tensors of
    the file, whatever path is in use. The codes are not trained; gradients flow to the input.
    """

    def __init__(
        self,
        codec: Codec,
        in_features: int,
        out_features: int,
        *,
        bias: bool,
        dtype: torch.dtype,
        device: torch.device | str | None = None,
        widen: bool = False,
        native: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        self.codec = codec
        self.in_features = in_features
        self.out_features = out_features
        self.widen = widen
        self.native = native
        self.path: MatmulPath | None = None
        self._buffer_names: tuple[str, ...] = ()
        self._prepared_for: tuple[torch.dtype, torch.device] | None = None
        self._declare(device)
        self.register_parameter(
            "bias", _frozen(torch.empty(out_features, dtype=dtype, device=device)) if bias else None
        )

    def quantized(self) -> QuantizedTensor:
        """Return the weight as codes, exactly as it was loaded."""
        if self.path is None:
            return self.codec.rebuild(self._shape, self._stored_parameters())
        return self.path.restore(self._path_buffers())

    def check_stored(self, file_name: str) -> None:
        """Check the tensors as they were loaded, which headers cannot tell.

        Args:
            file_name: Of the layer in its files, for the message.
        Raises:
            CheckpointError: a shape that is not this layer's, or a scale that is not a number.
        """
        shape = tuple(cast(Tensor, self._parameters[SHAPE_SUFFIX]).tolist())
        if shape != self._shape:
            raise CheckpointError(
                f"tensor {file_name}.{SHAPE_SUFFIX} holds {list(shape)}, the model needs {list(self._shape)}"
            )
        for suffix, tensor in self._stored_parameters().items():
            require_finite(tensor, f"{file_name}.{suffix}")

    def prepare(self, dtype: torch.dtype) -> None:
        """Choose the path for activations of `dtype` on the device the weight is on, and pack for it."""
        device = self._anchor().device
        if self._prepared_for == (dtype, device):
            return
        path = choose_path(
            Case(
                self.codec,
                self.out_features,
                self.in_features,
                dtype,
                device.type,
                widen=self.widen,
                native=self.native,
            )
        )
        self._prepared_for = (dtype, device)
        if self.path is not None and type(path) is type(self.path):
            return
        buffers = path.prepare(self.quantized())
        self._drop()
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer.to(device), persistent=False)
        self._buffer_names = tuple(buffers)
        self.path = path

    def forward(
        self,
        input: Float[Tensor, "... in"],  # torch's own name
        *,
        shared: Float[Tensor, "... rank"] | None = None,
        left: Float[Tensor, "out rank"] | None = None,
    ) -> Float[Tensor, "... out"]:
        """Return x·Qᵀ + b in the dtype of x; with `shared` also shared·leftᵀ, and then without a gradient."""
        self.prepare(input.dtype)
        flat = input.reshape(-1, self.in_features)
        if shared is None or left is None:
            y: Tensor = _PackedProduct.apply(flat, self)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        else:
            y = self.product(flat, shared=shared.reshape(-1, shared.shape[-1]), left=left)
        y = y.reshape(*input.shape[:-1], self.out_features)
        bias = self._parameters["bias"]
        return y if bias is None else y + bias.to(y.dtype)

    def product(
        self,
        x: Float[Tensor, "rows in"],
        *,
        shared: Float[Tensor, "rows rank"] | None = None,
        left: Float[Tensor, "out rank"] | None = None,
    ) -> Float[Tensor, "rows out"]:
        """Return x·Qᵀ, plus shared·leftᵀ where given; not recorded for autograd.

        Args:
            shared: x·Rᵀ.
            left: L, in the dtype of `shared`.
        """
        path, buffers = self._prepared(), self._path_buffers()
        if shared is None or left is None:
            return path.multiply(buffers, x)
        return path.multiply_corrected(buffers, x, shared, left)

    def product_transposed(self, y: Float[Tensor, "rows out"]) -> Float[Tensor, "rows in"]:
        """Return y·Q; not recorded for autograd."""
        return self._prepared().multiply_transposed(self._path_buffers(), y)

    def extra_repr(self) -> str:
        """Return sizes, codes and path for `print(model)`."""
        path = self.path.name if self.path is not None else "as stored"
        has_bias = self._parameters["bias"] is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={has_bias}, {path}"

    @property
    def _shape(self) -> tuple[int, int]:
        return (self.out_features, self.in_features)

    def __getattr__(self, name: str) -> Any:
        # Other libraries probe `weight` for its device, and models for the type to hand their inputs over in; the
        # packed tensor answers for it.
        if name == "weight" and "weight" not in self._parameters:
            return self._anchor() if self._prepared_for is None else _answering(self._anchor(), self._prepared_for[0])
        return super().__getattr__(name)

    def _anchor(self) -> Tensor:
        if self.path is not None:
            return self._path_buffers()[self._buffer_names[0]]
        # The parameter itself: transformers marks it as loaded, and would initialize an unmarked one.
        return cast(Tensor, self._parameters[next(iter(self.codec.declared(self._shape)))])

    def _prepared(self) -> MatmulPath:
        if self.path is None:
            raise RuntimeError("a packed layer is multiplied only after `prepare`")
        return self.path

    def _path_buffers(self) -> dict[str, Tensor]:
        return {name: cast(Tensor, self._buffers[name]) for name in self._buffer_names}

    def _stored_parameters(self) -> dict[str, Tensor]:
        return {suffix: cast(Tensor, self._parameters[suffix]).data for suffix in self.codec.declared(self._shape)}

    def _declare(self, device: torch.device | str | None) -> None:
        for suffix, entry in self.codec.declared(self._shape).items():
            # Not by register_parameter, which asks for `weight` before it is there.
            self._parameters[suffix] = _frozen(torch.empty(entry.shape, dtype=entry.dtype, device=device))
        self.register_parameter(SHAPE_SUFFIX, _frozen(torch.tensor(self._shape, device=device)))

    def _drop(self) -> None:
        for suffix in (*self.codec.declared(self._shape), SHAPE_SUFFIX):
            self._parameters.pop(suffix, None)
        for name in self._buffer_names:
            del self._buffers[name]
            self._non_persistent_buffers_set.discard(name)
        self._buffer_names = ()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.path is not None:
            tensors = self.codec.pack("the layer", self.quantized())
            tensors[SHAPE_SUFFIX] = torch.tensor(self._shape)
            destination.update({f"{prefix}{suffix}": tensor.contiguous() for suffix, tensor in tensors.items()})

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # An adapter's state dict is loaded through the whole model too, and holds nothing of ours.
        has_weight = any(f"{prefix}{suffix}" in state_dict for suffix in self.codec.declared(self._shape))
        if self.path is not None and has_weight:
            device = self._anchor().device
            self._drop()
            self.path, self._prepared_for = None, None
            self._declare(device)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # The scales in the tensors of the file are floating-point, so a cast of the model would round them.
        if self.path is None and self._anchor().device.type != "meta":
            self.prepare(torch.get_default_dtype())
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _answering(codes: Tensor, dtype: torch.dtype) -> Tensor:
    found = codes.as_subclass(_PackedCodes)
    found.number_dtype = dtype
    return found


class _PackedCodes(Tensor):
    """What `weight` answers with: device and shape of packed codes, the dtype of the product, no numbers to change."""

    number_dtype: torch.dtype

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]  # torch has a descriptor here
        """The type that the layer multiplies in: models cast inputs to it, and one byte would lose them."""
        return self.number_dtype

    @property
    def data(self) -> Tensor:  # type: ignore[override]  # torch has a descriptor here, to be read and written
        """Refuse: PEFT merges an adapter by writing here, and 8-bit codes even have the shape of the weight."""
        raise TypeError(
            "the weight is packed, so L·R cannot be merged into it in memory; `srr export --to merged` writes the sum"
        )


class _PackedProduct(torch.autograd.Function):
    """x·Qᵀ with a gradient for x; the codes themselves have none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        (gradient,) = gradients
        return ctx.layer.product_transposed(gradient.contiguous()), None


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
