"""What a restore would do, found out beside an appliance that works: the worker's look ahead, and what only we know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from callisto_telnetd.db.restore.outlook import Outlook, no_room_text
from callisto_telnetd.db.restore.switch import SETTINGS_FILE
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import DiskFullError, RestoreError, StoreError, quoted
from callisto_telnetd.maintenance.brought_settings import Brought, brought_by
from callisto_telnetd.maintenance.look_up import look_up
from callisto_telnetd.maintenance.repair import Surroundings
from callisto_telnetd.maintenance.restore_plan import KEEP_SETTINGS, Plan
from callisto_telnetd.maintenance.workshop import Progress
from callisto_telnetd.origin import Origin

Tell = Callable[[Progress], None]


class Planning:
    """Plans restores of one appliance; changes nothing."""

    def __init__(
        self,
        around: Surroundings,
        edition: str,
        settings_faults: Callable[[Path], Sequence[str]],
        settings_elsewhere: Path | None,
    ) -> None:
        """Stand by; the arguments are those of ``Restores``."""
        self._around = around
        self._edition = edition
        self._settings_faults = settings_faults
        self._settings_elsewhere = settings_elsewhere

    @asynccontextmanager
    async def planned(self, backup: Unpacked, origin: Origin, told: Tell) -> AsyncIterator[Plan]:
        """Have a plan at hand, with the files that it names; it is no error where the backup does not fit.

        Args:
            backup: What would be restored.
            origin: Who would restore it: over the network, a backup brings fewer settings.
            told: Told of the steps.

        Raises:
            StoreError: the worker failed.
        """
        elsewhere: Path | None = None
        if backup.settings is not None and not backup.is_past and self._settings_elsewhere is not None:
            elsewhere, backup = self._settings_elsewhere, replace(backup, settings=None)
        async with brought_by(origin, backup, self._around.folder.database) as brought:
            yield replace(await self._plan(brought, told), settings_elsewhere=elsewhere)

    async def _plan(self, brought: Brought, told: Tell) -> Plan:
        around, backup = self._around, brought.backup
        refusals: list[StoreError] = []
        outlook: Outlook | None = None
        try:
            order = {"live": str(around.folder.database), "backup": backup.as_data()}
            outlook = Outlook.from_data(await around.workshop.run("restore plan", order, told))
        except StoreError as error:  # that a newer version made it comes before what else may be strange then
            refusals.append(error)
        if brought.refusal is not None:
            refusals.append(brought.refusal)
        elif not backup.is_past:
            # Settings that nobody may read, such as too large ones, have given no outlook.
            refusals += await self._judge(backup if outlook is not None else replace(backup, settings=None))
        if outlook is not None and outlook.free_bytes < outlook.needed_bytes:
            refusals.append(DiskFullError(no_room_text(outlook.needed_bytes, outlook.free_bytes)))
        return Plan(
            backup=backup,
            refusals=tuple(refusals),
            outlook=outlook,
            variables=tuple(around.variables.differences_to(outlook.variables)) if outlook else (),
            accounts_now=tuple(each.name for each in around.accounts.all()),
            unused=self._unused(outlook),
            left_out=brought.left_out,
        )

    def _unused(self, outlook: Outlook | None) -> tuple[str, ...]:
        """Return what is wrong with values of the backup that no variable takes here."""
        stored = outlook.variables.items() if outlook else ()
        return tuple(fault for each in stored if (fault := self._around.variables.fault_of(*each)))

    async def _judge(self, backup: Unpacked) -> list[StoreError]:
        """Return what of a backup does not fit this appliance, as far as its manifest and its settings tell."""
        refusals: list[StoreError] = []
        if backup.edition != self._edition:
            refusals.append(
                RestoreError(
                    f"backup {quoted(backup.name)} is of edition {backup.edition}, this appliance is of edition"
                    f" {self._edition}; nothing was changed"
                )
            )
        if backup.settings is not None:
            refusals += [
                RestoreError(
                    f"no server would start with {SETTINGS_FILE} of the backup: {fault}; {KEEP_SETTINGS!r} leaves the"
                    " settings here as they are; nothing was changed"
                )
                for fault in await self._faults_of(backup.settings)
            ]
        return refusals

    async def faults_of_present_settings(self) -> Sequence[str]:
        """Return why a restore of a backup that is made now would refuse its settings, a line each."""
        file = self._around.folder.path / SETTINGS_FILE
        if self._settings_elsewhere is not None or not await asyncio.to_thread(file.is_file):
            return ()
        return await self._faults_of(file)

    async def _faults_of(self, file: Path) -> Sequence[str]:
        """Return why no server would start with a settings file; the files that it names may be anywhere."""
        return await look_up(str(file), file, lambda: self._settings_faults(file))
