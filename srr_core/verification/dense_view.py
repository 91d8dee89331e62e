"""An artifact as the dense checkpoint it stands for: Q + L·R under the names of a 16-bit model."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from srr_core.checkpoint.expert_names import stacked_part
from srr_core.errors import CheckpointError
from srr_core.formats.artifact import Artifact
from srr_core.verification.reload import merged_stack, merged_weight


class DenseView(Mapping[str, Tensor]):
    """Tensors of an artifact by dense names, decoded one at a time when they are read.

    A compressed layer is the float32 sum Q + L·R, as a model loaded in float32 computes with; every other
    tensor is as stored.

    Args:
        transposed: Modules whose dense weight is stored [in, out], as GPT-2's Conv1D does.
    """

    def __init__(self, artifact: Artifact, *, transposed: frozenset[str] = frozenset()) -> None:
        self._artifact = artifact
        self._transposed = transposed
        self._stacks = artifact.stacks()
        plain = (module for module in artifact.module_names() if stacked_part(module) is None)
        self._modules = {f"{module}.weight": module for module in plain}
        self._plain = set(artifact.plain_names())

    def __getitem__(self, name: str) -> Tensor:
        """Return one dense tensor. Raises CheckpointError."""
        if name in self._plain:
            return self._artifact.weights[name]
        if name in self._stacks:
            return merged_stack(self._artifact, name)
        try:
            module = self._modules[name]
        except KeyError:
            raise CheckpointError(f"tensor {name!r} is not in the artifact {self._artifact.directory.name!r}") from None
        weight = merged_weight(self._artifact, module)
        return weight.mT.contiguous() if module in self._transposed else weight

    def __iter__(self) -> Iterator[str]:
        yield from self._modules
        yield from self._stacks
        yield from sorted(self._plain)

    def __len__(self) -> int:
        return len(self._modules) + len(self._stacks) + len(self._plain)
