"""Where an artifact may go: the rules alone, without a hub."""

import pytest

from service.hub.destination import Destination, check_destination, report_source
from service.hub.errors import DestinationConflictError, PublicationRefusedError
from service.hub.model import ResolvedModel

HEAD = "1" * 40


def _source(*, private: bool = False, gated: bool = False) -> ResolvedModel:
    return ResolvedModel("acme/base", "0" * 40, private=private, gated=gated, files=())


def _ours(*, private: bool = False, made_from: str | None = "acme/base") -> Destination:
    return Destination("ours/out", head=HEAD, private=private, paths=("report.json",), made_from=made_from)


@pytest.mark.parametrize("repo_id", ["acme/base", "Acme/Base"])
def test_the_source_is_no_destination_in_any_case(repo_id: str) -> None:
    with pytest.raises(DestinationConflictError, match="the source itself"):
        check_destination(Destination(repo_id), _source(), private=None)


@pytest.mark.parametrize(
    ("source", "wish", "is_private"),
    [
        (_source(), None, False),
        (_source(), True, True),
        (_source(private=True), None, True),
        (_source(private=True), False, False),
        (_source(gated=True), None, True),
        (_source(gated=True), True, True),
    ],
)
def test_a_new_repository_is_as_private_as_its_source_or_as_asked(
    source: ResolvedModel, wish: bool | None, is_private: bool
) -> None:
    assert check_destination(Destination("ours/out"), source, private=wish) is is_private


def test_an_existing_private_repository_stays_private() -> None:
    assert check_destination(_ours(private=True), _source(), private=False) is True


def test_a_repository_that_holds_nothing_yet_may_be_used() -> None:
    empty = Destination("ours/out", head=HEAD, paths=(".gitattributes",))

    assert check_destination(empty, _source(), private=None) is False


@pytest.mark.parametrize("made_from", [None, "acme/other"])
def test_anything_but_our_artifact_of_this_source_is_a_conflict(made_from: str | None) -> None:
    with pytest.raises(DestinationConflictError, match="ours/out exists already"):
        check_destination(_ours(made_from=made_from), _source(), private=None)


@pytest.mark.parametrize(
    ("source", "wish"), [(_source(private=True), None), (_source(gated=True), None), (_source(), True)]
)
def test_what_should_be_private_does_not_go_to_a_public_repository(source: ResolvedModel, wish: bool | None) -> None:
    with pytest.raises(PublicationRefusedError, match="public"):
        check_destination(_ours(), source, private=wish)


@pytest.mark.parametrize(
    "report",
    [
        None,
        [],
        {},
        {"source": {"id": "acme/base"}},
        {"schema_version": 1, "source": {"id": "acme/base"}},
        {"schema_version": 1, "environment": {"core_version": "1"}, "source": "acme/base"},
        {"schema_version": "1", "environment": {"core_version": "1"}, "source": {"id": "acme/base"}},
    ],
)
def test_a_report_of_others_names_no_source(report: object) -> None:
    assert report_source(report) is None
