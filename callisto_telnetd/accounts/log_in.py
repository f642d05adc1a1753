"""A log-in, the same at every door: the password is checked when it is the source's turn.

A check that has begun goes on to its end, whatever becomes of the connection, and is counted and kept in the audit.
"""

from __future__ import annotations

import asyncio

from callisto_telnetd.accounts.accounts import Account, Accounts
from callisto_telnetd.accounts.audit import DENIED, Audit
from callisto_telnetd.accounts.gatekeeper import Gatekeeper
from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.accounts.turns import Turn
from callisto_telnetd.origin import Origin


async def check_log_in(
    name: str, password: str, *, door: str, address: str, accounts: Accounts, gatekeeper: Gatekeeper, audit: Audit
) -> Account | None:
    """Return the account whose password this is; None where it is not, or where there is no such account.

    Both take the same time, and both count against the address and are kept in the audit.

    Raises:
        TooManyFailuresError: the address has to wait; nothing was looked at.
    """
    turn = await gatekeeper.turns.take(source_of(address, door))
    origin = Origin(name, door, address)
    checking = gatekeeper.tries.begin(_check(turn, origin, password, accounts, audit))
    try:
        account = await asyncio.shield(checking)
    except asyncio.CancelledError:
        gatekeeper.tries.begin(_note_cut(checking, origin, audit))
        raise
    # It may have been changed or removed as its check ended: whoever did it has ended the sessions that there were.
    return account if account is not None and accounts.stands(account) else None


async def _check(turn: Turn, origin: Origin, password: str, accounts: Accounts, audit: Audit) -> Account | None:
    account = None
    try:
        account = await accounts.check(origin.who, password, first=turn.first)
    finally:
        turn.end(right=account is not None)
    if account is None:
        # An unknown name may be a password typed too early: it is kept nowhere.
        known = any(other.name == origin.who for other in accounts.all())
        await audit.note(DENIED, Origin(origin.who if known else "unknown", origin.door, origin.source))
    return account


async def _note_cut(checking: asyncio.Task[Account | None], origin: Origin, audit: Audit) -> None:
    """Keep in the audit that the password was right, though nobody was there any more to be let in."""
    if await checking is not None:
        await audit.note("log-in cut off", origin)
