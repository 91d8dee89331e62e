"""What is lent to whom, and whose a name is once somebody has published there."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, insert, update

from service.jobs import tables
from service.jobs.errors import DestinationTakenError, HubTokenNeededError, InvalidJobError
from service.jobs.sql_store import SqlJobStore
from service.jobs.tenancy import LOCAL_OWNER, Tenancy
from service.jobs.work import JobDestination
from service.platform.database import migrate, open_database, writing
from tests.service.submitting import submission, submitted


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def tenancy(engine: Engine) -> Tenancy:
    return Tenancy(engine)


def test_nothing_is_lent_but_what_the_operator_lends(tenancy: Tenancy) -> None:
    for namespace in ("Acme", "acme", "other"):
        tenancy.lend("ann", namespace)

    assert tenancy.loans() == [("ann", "acme"), ("ann", "other")]
    assert tenancy.loan("ann").covers("ACME/x")
    assert not tenancy.loan("ann").covers("acme-2/x")
    assert not tenancy.loan("bob").covers("acme/x")
    assert tenancy.take_back("ann", "ACME")
    assert not tenancy.take_back("ann", "acme")
    assert not tenancy.loan("ann").covers("acme/x")


def test_everything_is_lent_to_the_one_local_user_and_by_a_star(tenancy: Tenancy) -> None:
    tenancy.lend("admin", "*")

    assert tenancy.loan(LOCAL_OWNER).covers("any/thing")
    assert tenancy.loan("admin").covers("any/thing")


@pytest.mark.parametrize(("owner", "namespace"), [("ann", "a/b"), ("ann", ""), ("ann", "-x"), ("hf:42", "acme")])
def test_a_loan_that_makes_no_sense_is_refused(tenancy: Tenancy, owner: str, namespace: str) -> None:
    with pytest.raises(InvalidJobError):
        tenancy.lend(owner, namespace)


def test_an_account_of_the_hub_is_lent_nothing_whatever_the_table_says(tenancy: Tenancy, engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(insert(tables.lent_namespaces).values(owner="hf:42", namespace="acme"))

    with pytest.raises(HubTokenNeededError, match="Lent to you: none"):
        tenancy.of("hf:42").require_loan("acme/x")


def test_a_name_belongs_to_whoever_published_there_first(tenancy: Tenancy) -> None:
    ann, bob = tenancy.of("ann"), tenancy.of("bob")
    ann.require_destination("acme/x", is_free=True)
    ann.publish("acme/x", with_own_token=False)
    ann.publish("acme/x", with_own_token=False)

    ann.require_destination("acme/x", is_free=False)
    with pytest.raises(DestinationTakenError):
        bob.require_destination("Acme/X", is_free=True)
    with pytest.raises(DestinationTakenError):
        bob.publish("Acme/X", with_own_token=False)
    bob.publish("acme/x", with_own_token=True)
    assert tenancy.publisher("ACME/X") == "bob"


def test_what_nobody_here_published_is_nobodys_to_replace_but_the_operators(tenancy: Tenancy) -> None:
    with pytest.raises(DestinationTakenError):
        tenancy.of("ann").require_destination("acme/x", is_free=False)
    tenancy.of(LOCAL_OWNER).require_destination("acme/x", is_free=False)


def test_of_many_who_publish_at_once_one_is_written_down(tenancy: Tenancy) -> None:
    won: list[str] = []

    def publish(owner: str) -> None:
        if tenancy.publish("acme/x", owner, is_allowed=False):
            won.append(owner)

    threads = [threading.Thread(target=publish, args=(f"owner{number}",)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert won == [tenancy.publisher("acme/x")]


def test_what_was_published_before_is_remembered_by_the_migration(engine: Engine, tenancy: Tenancy) -> None:
    store = SqlJobStore(engine)
    wanted = submission(destination=JobDestination(repo_id="Acme/Out"))
    for day, (owner, state) in enumerate((("ann", "succeeded"), ("bob", "succeeded"), ("eve", "failed")), start=1):
        job, ended = submitted(store, wanted, owner=owner), datetime(2026, 1, day, tzinfo=UTC)
        with writing(engine) as connection:
            of_job = update(tables.jobs).where(tables.jobs.c.id == job.id)
            connection.execute(of_job.values(state=state, finished_at=ended))
    with writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", "service:platform/migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, "0010")

    migrate(engine)

    assert tenancy.publisher("acme/out") == "bob"
