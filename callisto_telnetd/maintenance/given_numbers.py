"""The numbers that the audit and the history of variables have given, for whoever puts another database in place."""

from __future__ import annotations

from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import StoreError
from callisto_telnetd.variables import Registry

_MOST_UNKNOWN = 100_000
"""What a damaged database may have given beyond what memory knows: a number above that is the damage's own."""


async def given_numbers(store: Store, audit: Audit, variables: Registry) -> dict[str, int]:
    """Return the highest numbers by table, as database and memory have them.

    A table is missing where neither knows. The last entries of a damaged database may be lost: where memory does not
    know, it is missing too.
    """
    given = {}
    for table, asked, remembered in (
        ("audit", audit.last_number, store.last_audited),
        ("variable_change", variables.last_number, variables.last_made),
    ):
        try:
            number = await asked()
        except StoreError:  # it is damaged at that very place
            number = 0
        if not store.usable and not 0 < number - remembered <= _MOST_UNKNOWN:
            number = remembered
        if (store.usable or remembered) and (number := max(number, remembered)):
            given[table] = number
    return given
