"""A closed table from a specification's type to the class that carries it out."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from srr_core.recipe.base import Spec

T = TypeVar("T")


class Registry(Generic[T]):
    """The variants of one family, keyed by the type of their specification.

    The table is a literal written in one place. Nothing registers itself, nothing is looked up by
    a word from outside: pydantic has turned the word into a type before it comes here.
    """

    def __init__(self, family: str, table: Mapping[type[Spec], type[T]]) -> None:
        self.family = family
        self._table = dict(table)

    def build(self, spec: Spec) -> T:
        """Return the implementation of a specification.

        Raises:
            KeyError: the type of the specification has no row, which is a bug in the table.
        """
        try:
            implementation = self._table[type(spec)]
        except KeyError:
            raise KeyError(f"no {self.family} is registered for {type(spec).__name__}") from None
        return implementation(spec)  # type: ignore[call-arg]  # every variant takes its specification

    def __iter__(self) -> Iterator[type[Spec]]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)
