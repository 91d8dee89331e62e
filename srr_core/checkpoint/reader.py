"""Tensors read one at a time, each straight into memory of its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from srr_core.checkpoint.derived import DerivedEntry
from srr_core.checkpoint.header import TensorEntry
from srr_core.checkpoint.index import read_index
from srr_core.errors import CheckpointError


class CheckpointReader(Mapping[str, Tensor]):
    """A checkpoint folder as a lazy mapping from tensor names to tensors.

    Headers are read and checked at once, data when asked for. Files are read, not mapped, so the resident
    memory is that of the tensors the caller holds.

    Raises:
        CheckpointError: see `read_index`.
    """

    def __init__(
        self, directory: Path, *, entries: Mapping[str, TensorEntry] | None = None, may_have_adapter: bool = False
    ) -> None:
        self.directory = directory
        found = read_index(directory, may_have_adapter=may_have_adapter) if entries is None else entries
        self._entries = dict(found)
        self._behind: CheckpointReader | None = None
        self._held: tuple[str, Tensor] | None = None

    def showing(self, entries: Mapping[str, TensorEntry]) -> "CheckpointReader":
        """Return a reader of the same files that shows other tensors, made from those of this one when they are read.

        Args:
            entries: Whole: of the tensors that stay, and of derived ones in place of those that do not.
        """
        reader = CheckpointReader(self.directory, entries=entries)
        reader._behind = self
        return reader

    def __getitem__(self, name: str) -> Tensor:
        """Return one tensor, on the CPU, in the dtype it is stored in.

        Raises:
            CheckpointError: no such tensor, or its file changed or cannot be read.
        """
        entry = self.entry(name)
        if self._behind is not None:
            if self._behind.entries.get(name) is entry:
                return self._behind[name]
            if isinstance(entry, DerivedEntry):
                return entry.make(self._behind.__getitem__)
        return self._read(name, entry)

    @staticmethod
    def _read(name: str, entry: TensorEntry) -> Tensor:
        data = bytearray(entry.num_bytes)
        try:
            with entry.file.open("rb") as stream:
                stream.seek(entry.begin)
                count = stream.readinto(data)
        except OSError as error:
            raise CheckpointError(f"{entry.file.name}: tensor {name!r} cannot be read: {error.strerror}") from error
        if count != entry.num_bytes:
            raise CheckpointError(f"{entry.file.name}: tensor {name!r} is cut off")
        if not data:
            return torch.empty(entry.shape, dtype=entry.dtype)
        return torch.frombuffer(data, dtype=entry.dtype).reshape(entry.shape)

    def part(self, name: str, index: int) -> Tensor:
        """Return one entry along the first dimension of a tensor, of which no more than that is read where possible.

        A tensor that is made from others is made as a whole and held until another one is asked for.

        Raises:
            CheckpointError: as for the whole tensor.
        """
        entry = self.entry(name)
        if self._behind is not None and self._behind.entries.get(name) is entry:
            return self._behind.part(name, index)
        if isinstance(entry, DerivedEntry):
            if self._held is None or self._held[0] != name:
                self._held = (name, self[name])
            return self._held[1][index]
        size = entry.num_bytes // entry.shape[0]
        begin = entry.begin + index * size
        return self._read(name, TensorEntry(entry.file, entry.dtype, entry.shape[1:], begin, begin + size))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Dtype, shape and place of every tensor."""
        return MappingProxyType(self._entries)

    def entry(self, name: str) -> TensorEntry:
        """Return dtype, shape and place of a tensor without reading it. Raises CheckpointError."""
        try:
            return self._entries[name]
        except KeyError:
            raise CheckpointError(f"tensor {name!r} is not in the checkpoint {self.directory.name!r}") from None

    def total_bytes(self) -> int:
        """Return the size of all tensors together, as they lie in files."""
        if self._behind is not None:
            return self._behind.total_bytes()
        return sum(entry.num_bytes for entry in self._entries.values())
