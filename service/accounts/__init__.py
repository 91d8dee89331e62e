"""Accounts of the Hub: people who sign in with Hugging Face, and the access to the Hub they give us."""

from service.accounts.access import HubAccess, open_access, seal_access
from service.accounts.admission import Admission
from service.accounts.pending import SIGN_IN_LIFETIME, PendingSignIns
from service.accounts.provider import OpenIDProvider
from service.accounts.schema import Account
from service.accounts.sign_in import AccountSignIn, ProviderAnswer

__all__ = [
    "SIGN_IN_LIFETIME",
    "Account",
    "AccountSignIn",
    "Admission",
    "HubAccess",
    "OpenIDProvider",
    "PendingSignIns",
    "ProviderAnswer",
    "open_access",
    "seal_access",
]
