"""Maintenance mode: what the appliance does while its database cannot be used, and how it comes back.

Rules:

* The shell stays. Administrators log in by the account file, variables stand at their defaults, and nothing of both can
  be changed; the trace, the information and the repair work.
* What is in memory already is worth more than files: a database that fails in a running server takes nothing away.
* A database that is damaged and can still be read is no reason for the mode: all goes on, but nothing is written to it.
* The mode ends by itself once the database can be used again: all that is kept in memory is then read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from callisto_telnetd.accounts.accounts import Accounts
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import StoreError
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.variables import Registry

_NOTICE = "maintenance"
_DAMAGE_NOTICE = "damage"
_FORM_NOTICE = "form"

Read = Callable[[], Awaitable[None]]


class MaintenanceMode:
    """Whether the appliance works without its database; the store tells it of what comes later."""

    def __init__(self, store: Store, variables: Registry, accounts: Accounts, presence: Presence, log: Log) -> None:
        self._store = store
        self._variables = variables
        self._accounts = accounts
        self._presence = presence
        self._log = log
        self.also: list[Read] = []
        """What is read once from the database into memory, in this order, before the variables and accounts."""
        self.late: list[Read] = []
        """What is read where the start could not, and is worth more in memory otherwise."""
        self.kept: list[Read] = []
        """What is kept again, where it is in memory already: another database may hold less of it."""
        self._loaded = False
        self._reading = asyncio.Lock()
        self._returning: asyncio.Task[None] | None = None
        self.active = False

    @property
    def reason(self) -> str:
        """Why the database cannot be used; blank where it can."""
        fault = self._store.fault
        return "" if fault is None else str(fault).removesuffix("; nothing was changed")

    @property
    def text(self) -> str:
        """What an administrator should know of the mode in one line; blank where all is well."""
        if not self.active:
            return ""
        effect = (
            "nothing that it keeps can be changed"
            if self._loaded
            else "variables are at their defaults, and neither they nor accounts can be changed"
        )
        return f"maintenance mode: {self.reason or 'the database cannot be used'}; {effect}; 'repair' helps"

    async def open(self) -> None:
        """Read the appliance from its database; one that cannot be read begins the mode."""
        self._store.on_fault.append(self._begin)
        self._store.on_return.append(self._return)
        self._store.on_damage.append(self._tell_damage)
        self._store.on_return.append(self._tell_form)
        self._tell_damage()
        self._tell_form()
        if self._store.fault is None:
            await self.reload()
        else:
            self._begin(self._store.fault)
        if not self._loaded:
            self._variables.take_defaults()
            await self._accounts.load_file()

    async def reload(self) -> None:
        """Read everything anew from a database that can be used again, or has become another; the mode then ends.

        With a database that cannot be used, nothing in memory changes. Call it after each repair or restore, once the
        store is held no longer.
        """
        async with self._reading:
            if self._store.fault is not None:
                return
            try:
                for read in () if self._loaded else self.also:
                    await read()
                await self._variables.reload(alone=self._store.reservation.is_mine)
                await self._accounts.load()
                for each in self.late if not self._loaded else () if self._store.damage else self.kept:
                    await each()
            except StoreError as error:
                self._store.give_up(error)
                return
            self._loaded = True
            if self.active:
                self.active = False
                self._presence.clear(_NOTICE)
                self._presence.notify_all("maintenance mode has ended: the database can be used")
                self._log.info("maintenance mode ended")

    def _begin(self, fault: StoreError) -> None:
        self.active = True
        self._log.warning("maintenance mode", reason=str(fault))
        self._presence.stand(_NOTICE, self.text)

    def _tell_damage(self) -> None:
        damage = self._store.damage
        if not damage:
            self._presence.clear(_DAMAGE_NOTICE)
            return
        self._log.warning("the database is damaged; nothing is written to it until it is repaired", fault=damage)
        self._presence.stand(
            _DAMAGE_NOTICE,
            f"the database is damaged ({damage}) and not written to until it is repaired: choose Repair Database",
        )

    def _tell_form(self) -> None:
        form = self._store.form
        if form:
            text = f"the database is not of Callisto's own form ({form}): 'compact' gives it that"
            self._presence.stand(_FORM_NOTICE, text)
        else:
            self._presence.clear(_FORM_NOTICE)

    def _return(self) -> None:
        """Come back where whoever held the file does not say so himself."""
        if self.active and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self.reload())

    async def close(self) -> None:
        """Return once a reading that runs has ended."""
        if self._returning is not None:
            await asyncio.wait((self._returning,))
