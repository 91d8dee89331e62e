"""Who may sign in with an account, and for how long they may stay."""

import pytest

from service.accounts import Account, Admission
from service.accounts.errors import NotAdmittedError
from service.accounts.schema import Identity

ANN = Identity(subject="5f3c", name="ann", organizations=("acme",))


def test_anybody_may_come_in_where_nobody_is_named() -> None:
    account = Admission(()).admit(ANN)

    assert (account.owner, account.name, account.admitted_by) == ("hf:5f3c", "ann", None)


@pytest.mark.parametrize("entry", ["ann", "ANN", "5f3c", "Acme"])
def test_a_name_an_id_and_an_organization_let_somebody_in(entry: str) -> None:
    admission = Admission((entry, "bob"))

    account = admission.admit(ANN)

    assert account.admitted_by == entry.casefold()
    assert admission.still_admits(account)


def test_somebody_who_is_not_named_stays_outside() -> None:
    with pytest.raises(NotAdmittedError, match="not open to ann"):
        Admission(("bob",)).admit(ANN)


@pytest.mark.parametrize("admitted_by", ["ann", None])
def test_a_list_without_the_entry_admits_no_longer(admitted_by: str | None) -> None:
    account = Account(subject="5f3c", name="ann", admitted_by=admitted_by)

    assert not Admission(("bob",)).still_admits(account)
    assert Admission(()).still_admits(account)
