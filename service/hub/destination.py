"""Whether an artifact may be published somewhere: the rules that keep other people's repositories safe."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from service.hub.errors import DestinationConflictError, PublicationRefusedError
from service.hub.model import ResolvedModel

REPORT_FILE = "report.json"
"""Every artifact of ours carries it; a repository with another content is somebody else's."""
CONVERSION_FILE = "conversion.json"
Holding = Literal["compression", "fine-tuning", "evaluation", "conversion"]
_REPORT_FILES: Mapping[str, Holding] = MappingProxyType(
    {
        "evaluation.json": "evaluation",
        CONVERSION_FILE: "conversion",
        "tuning.json": "fine-tuning",
        REPORT_FILE: "compression",
    }
)
"""What a repository of ours holds, by the first of these files: a fine-tuning has the report of its compression too, a
conversion may have both."""
MAX_REPORT_BYTES = 100_000_000
"""A layer takes about 700 bytes of report.json, and mixtures of experts have tens of thousands of layers."""
_FRESH_FILES = frozenset({".gitattributes"})
"""What a hub puts into a new repository by itself."""


@dataclass(frozen=True)
class Destination:
    """A repository to publish to, as it is now."""

    repo_id: str
    head: str | None = None
    """Commit of the main branch; None when the repository does not exist."""
    private: bool = False
    paths: tuple[str, ...] = ()
    made_from: str | None = None
    """Source of the artifact of ours it holds, as the report there says."""
    writable: bool | None = None
    """Whether the token may write there; None where that was not asked."""

    @property
    def exists(self) -> bool:
        """Whether there is such a repository."""
        return self.head is not None

    @property
    def holds(self) -> Holding | None:
        """What of ours it holds, by its files."""
        name = report_file(self.paths)
        return None if name is None else _REPORT_FILES[name]

    @property
    def is_empty(self) -> bool:
        """Whether publishing would overwrite nothing; so is a repository that a killed attempt just created."""
        return set(self.paths) <= _FRESH_FILES


def check_destination(
    destination: Destination, source: ResolvedModel, *, private: bool | None, holding: Holding = "compression"
) -> bool:
    """Return whether the published repository has to be private.

    Args:
        holding: What is to be published: one kind of result never takes the place of another.
        private: The caller's wish; None means as private as the source. A gated source counts as private.

    Raises:
        DestinationConflictError: the repository exists and is not our result of this kind and source.
        PublicationRefusedError: a gated source would become public, or a private wish meets a public repository.
    """
    if destination.repo_id.lower() == source.model_id.lower():  # hubs do not tell names apart by case
        raise DestinationConflictError(f"{source.model_id} is the source itself; choose another destination.")
    if source.gated and private is False:
        raise PublicationRefusedError(
            f"{source.model_id} is gated, so a public copy would go round its terms; publish {destination.repo_id} as "
            "private."
        )
    wanted = (source.private or source.gated) if private is None else private
    if destination.exists:
        _check_existing(destination, source, private=wanted, holding=holding)
    return wanted or (destination.exists and destination.private)


def _check_existing(destination: Destination, source: ResolvedModel, *, private: bool, holding: Holding) -> None:
    is_same = (destination.made_from, destination.holds) == (source.model_id, holding)
    if not destination.is_empty and not is_same:
        article = "an" if destination.holds == "evaluation" else "a"
        of = destination.made_from
        holds = f"{article} {destination.holds} of {of}" if of else "something else"
        raise DestinationConflictError(
            f"{destination.repo_id} exists already and holds {holds}; choose another name, or delete it first."
        )
    if private and not destination.private:
        raise PublicationRefusedError(
            f"{destination.repo_id} is public, but {source.model_id} is not, or a private result was asked for; make "
            "the repository private or choose another name."
        )


def report_file(paths: Iterable[str]) -> str | None:
    """Return the file that says what a repository of ours holds, or None where there is none."""
    present = set(paths)
    return next((name for name in _REPORT_FILES if name in present), None)


def report_source(report: Any) -> str | None:
    """Return the source a report of ours names, or None when it is not one of ours."""
    match report:
        case {"schema_version": int(), "environment": {"core_version": str()}, "model": {"id": str(measured)}}:
            return measured
        case {"schema_version": int(), "environment": {"core_version": str()}, "source": {"id": str(model_id)}}:
            return model_id
    return None
