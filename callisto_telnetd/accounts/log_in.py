"""A log-in, the same at every door: the password is checked within the penalties of the source it comes from."""

from __future__ import annotations

from callisto_telnetd.accounts.accounts import Account, Accounts
from callisto_telnetd.accounts.audit import DENIED, Audit
from callisto_telnetd.accounts.gatekeeper import Penalties, source_of
from callisto_telnetd.origin import Origin


async def check_log_in(
    name: str, password: str, *, door: str, address: str, accounts: Accounts, penalties: Penalties, audit: Audit
) -> Account | None:
    """Return the account whose password this is; None where it is not, or where there is no such account.

    Both take the same time, and both count against the address and are kept in the audit.

    Raises:
        TooManyFailuresError: the address has to wait; nothing was looked at.
    """
    source = source_of(address)
    async with penalties.attempt(source):
        account = await accounts.check(name, password)
        if account is not None:
            penalties.succeeded(source)
            return account
        penalties.failed(source)
    # An unknown name may be a password typed too early: it is kept nowhere.
    known = any(other.name == name for other in accounts.all())
    await audit.note(DENIED, Origin(name if known else "unknown", door, address))
    return None
