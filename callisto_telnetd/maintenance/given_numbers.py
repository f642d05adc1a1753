"""The numbers that the audit and the history of variables have given, for whoever puts another database in place."""

from __future__ import annotations

from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import StoreError
from callisto_telnetd.variables import Registry


async def given_numbers(store: Store, audit: Audit, variables: Registry) -> dict[str, int]:
    """Return the highest numbers by table, as the database has them, else memory.

    A table is missing where neither knows.
    """
    given = {}
    for table, asked, remembered in (
        ("audit", audit.last_number, audit.last_noted),
        ("variable_change", variables.last_number, variables.last_made),
    ):
        try:
            number = await asked() if store.usable else remembered
        except StoreError:  # it is damaged at that very place
            number = remembered
        if number:
            given[table] = max(number, remembered)
    return given
