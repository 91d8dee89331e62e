"""Who may sign in with an account: everybody, or those the operator has named."""

from collections.abc import Iterable

from service.accounts.errors import NotAdmittedError
from service.accounts.schema import Account, Identity


class Admission:
    """The operator's list: names or ids of users, and names of organizations. Empty: everybody may come in.

    Hub names do not differ by case alone, so case is not compared.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(name.casefold() for name in allowed)

    def admit(self, identity: Identity) -> Account:
        """Return the account of somebody who may come in. Raises NotAdmittedError."""
        candidates = (identity.subject, identity.name, *identity.organizations)
        entry = next((name.casefold() for name in candidates if name.casefold() in self._allowed), None)
        if self._allowed and entry is None:
            raise NotAdmittedError(
                f"This service is not open to {identity.name}; ask whoever runs it to add you or your organization."
            )
        return Account(subject=identity.subject, name=identity.name, admitted_by=entry)

    def still_admits(self, account: Account) -> bool:
        """Whether the entry that let an account in is still there, so that a shorter list ends its sessions."""
        return not self._allowed or account.admitted_by in self._allowed
