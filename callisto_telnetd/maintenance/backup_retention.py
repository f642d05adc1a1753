"""Older backups of a schedule go, at its target and here; which ones is :mod:`.retention`'s to say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from callisto_telnetd.clock import Clock
from callisto_telnetd.db.backup.folder import host_of_name, parse_name
from callisto_telnetd.errors import CallistoError
from callisto_telnetd.maintenance.backup_schedules import BackupSchedule
from callisto_telnetd.maintenance.backups import Backups
from callisto_telnetd.maintenance.retention import Dated, surplus
from callisto_telnetd.origin import SYSTEM
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import RemoteFile, parted_name


class Retention:
    """Removes what schedules do not keep any more."""

    def __init__(self, backups: Backups, host: str, clock: Clock, log: Log) -> None:
        self._backups = backups
        self._host = host
        self._clock = clock
        self._log = log

    async def retain(self, schedule: BackupSchedule, good: Collection[str]) -> str:
        """Let the old ones go, there and here; return what to say of that, blank for nothing."""
        try:
            there = await self._retain_there(schedule, good)
            here = await self.retain_here(schedule, good)
        except CallistoError as error:
            self._log.warning("older backups stay", schedule=schedule.name, reason=str(error))
            return f"; older ones stay: {error}"
        gone = [f"{count} {where}" for count, where in ((there, "there"), (here, "here")) if count]
        return f"; older removed: {', '.join(gone)}" if gone else ""

    async def _retain_there(self, schedule: BackupSchedule, good: Collection[str]) -> int:
        """Remove at the target what the schedule does not keep; return how many files went."""
        if schedule.keep.everything:
            return 0
        gone: list[str] = []
        async with open_transport(schedule.place, credentials_of(schedule)) as transport:
            there = await transport.list()
            for each in self._surplus(self._own(there), schedule, good):
                await transport.delete(each.name)
                gone.append(each.name)
            for name in self._own_parts(there):  # of runs that were cut off for good
                await transport.delete(name)
        await self._backups.note_removal(gone, str(schedule.place))
        return len(gone)

    async def retain_here(self, schedule: BackupSchedule, good: Collection[str]) -> int:
        """Remove of what the schedule has made here what it does not keep; return how many files went."""
        listed = await self._backups.list()
        made = [each for each in listed if each.known.schedule == schedule.name]
        mine = self._own([RemoteFile(each.path.name, each.size_bytes) for each in made])
        gone = self._surplus(mine, schedule, good)
        for each in gone:
            await self._backups.delete(SYSTEM, each.name, patient=True)
        return len(gone)

    def _surplus(self, backups: Sequence[Dated], schedule: BackupSchedule, good: Collection[str]) -> list[Dated]:
        return surplus(backups, schedule.keep, self._clock.now().replace(tzinfo=None), good)

    def _own(self, files: Sequence[RemoteFile]) -> list[Dated]:
        """Return those whose names are ours, and of this host: others may keep theirs in the same folder."""
        host = host_of_name(self._host)
        known = [(file.name, parse_name(file.name)) for file in files]
        return [Dated(name, own.at, own.nth) for name, own in known if own is not None and own.host == host]

    def _own_parts(self, files: Sequence[RemoteFile]) -> list[str]:
        """Return the names of what has arrived of ours in part alone."""
        whole = [(file.name, parted_name(file.name)) for file in files]
        return [name for name, of in whole if of is not None and self._own([RemoteFile(of, 0)])]


def credentials_of(schedule: BackupSchedule) -> Credentials:
    """Return what the target of a schedule wants to see."""
    return Credentials(
        password=schedule.target_password,
        key_file=Path(schedule.key_file) if schedule.key_file else None,
        host_key=schedule.host_key,
        ca_file=Path(schedule.ca_file) if schedule.ca_file else None,
    )
