"""The backups of the appliance: made, listed, verified and deleted, for whichever door asks.

Rules:

* One at a time works on the whole database; the work is a worker's, and sessions go on beside it.
* A caller who goes away ends the work; what was not whole is removed.
* What is known of the archives (when they were verified, by which version they were made) is kept in the database,
  because an archive that a password protects does not tell it. A password is kept nowhere, and is in no log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.backup.folder import archives, delete, find, find_here, names_in, remove_unfinished
from callisto_telnetd.db.backup.manifest import LONGEST_NOTE
from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import (
    BackupError,
    CallistoError,
    DamagedDatabaseError,
    StoreError,
    UsageError,
    named,
    quoted,
)
from callisto_telnetd.maintenance.archives_here import Listed, is_protected, list_archives
from callisto_telnetd.maintenance.backup_password import require_password
from callisto_telnetd.maintenance.database_lock import DatabaseLock
from callisto_telnetd.maintenance.fetching import remove_unfetched
from callisto_telnetd.maintenance.known_backups import Known, LastGood, format_state, parse_state
from callisto_telnetd.maintenance.look_up import look_up
from callisto_telnetd.maintenance.sound import know_damage
from callisto_telnetd.maintenance.workshop import Progress, Workshop
from callisto_telnetd.origin import Origin
from callisto_telnetd.quantities import format_bytes
from callisto_telnetd.secret_text import composed
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.transports.daemon import look
from callisto_telnetd.variables import Registry
from callisto_telnetd.work import Lately

VERSION_STATE = "backed_up_version"
"""The key under which it is kept which version of the product has a backup; that of the first start needs none."""
BACKUP_STATE = "backups"
"""The key under which it is kept what is known of the archives, and which was the last good one."""
_NOTE_KEPT, _TARGET_KEPT = 100, 300


@dataclass(frozen=True, slots=True)
class Identified:
    """What an archive says of the appliance that made it."""

    product_version: str
    edition: str
    host: str
    serial: str


class Backups:
    """The archives of one appliance."""

    def __init__(
        self,
        *,
        folder: DataFolder,
        settings: Path,
        identified: Identified,
        store: Store,
        workshop: Workshop,
        variables: Registry,
        clock: Clock,
        audit: Audit,
        presence: Presence,
        log: Log,
        one_at_a_time: DatabaseLock,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._identified = identified
        self._store = store
        self._workshop = workshop
        self._variables = variables
        self._clock = clock
        self._audit = audit
        self._presence = presence
        self._log = log
        self._one_at_a_time = one_at_a_time
        self.recent_names: Lately[Sequence[str]] = Lately(self.names, (), partial(look, folder.backup))
        """The names, for Tab; what was put into the folder by hand may be missing for a moment."""

    async def open(self) -> None:
        """Remove what a killed server has left half done, and tell where an update asks for a new backup."""
        try:
            await look(self._folder.backup, self._tidy)
        except OSError as error:
            self._log.warning("an unfinished backup cannot be removed", reason=str(error.strerror))
        await self.recent_names.read()
        with suppress(StoreError):  # maintenance mode; the next start tells
            await self._note_update()

    def _tidy(self) -> None:
        remove_unfinished(self._folder.backup)
        remove_unfetched(self._folder.backup)

    async def close(self) -> None:
        """Return once the folder is read no more."""
        await self.recent_names.close()

    async def _note_update(self) -> None:
        """Have a notice stand from an update on, until there is a backup that the new version has made.

        The appliance's document, "Backup and restore": after an update earlier backups may not fit any longer.
        """
        version = self._identified.product_version
        known = await self._store.get_state(VERSION_STATE)
        if known is None:
            await self._store.set_state(VERSION_STATE, version)
        elif known != version:
            text = (
                f"version {version} has no backup yet, and those of {known} may not fit it: 'backup create' makes one"
            )
            self._presence.stand(VERSION_STATE, text)

    async def _end_update(self) -> None:
        """Keep that this version has a backup."""
        self._presence.clear(VERSION_STATE)
        try:
            await self._store.set_state(VERSION_STATE, self._identified.product_version)
        except StoreError as error:
            self._log.warning("what is known of the backups was not kept", reason=str(error))

    async def create(
        self,
        origin: Origin,
        *,
        password: str | None,
        note: str,
        told: Callable[[Progress], None],
        patient: bool = False,
        schedule: str = "",
    ) -> dict[str, Any]:
        """Make an archive, and return what the worker says of it; it is whole, verified and on the disk.

        An archive with doubtful rows stays, and is no good one: a restore would set them apart.

        Args:
            origin: Who wants it.
            password: It protects the archive; None: nothing does, and secrets are left out.
            note: A line that stands in it.
            schedule: The name of the schedule that wants it.
            patient: Whether to wait while something else works on the whole database, not to refuse.
            told: Told how far it has come.

        Raises:
            UsageError: something else works on the whole database, or the password is outside the rule.
            CallistoError: it cannot be made; nothing was changed.
        """
        order = await self._order(password, note, patient=patient)
        async with self._one_at_a_time.held(origin.who, "makes a backup"):
            made = await self._work("backup", order, told)
            version, verified = self._identified.product_version, self._clock.now().isoformat()
            at, doubtful = str(order["at"]), Doubtful.from_data(made["doubtful"])
            known = Known(at, verified, version, note[:_NOTE_KEPT], schedule=schedule, doubtful=_count_of(doubtful))
            last = LastGood(made["file"], datetime.fromisoformat(at).isoformat(timespec="seconds"), version)
            await self._keep({made["file"]: known}, None if doubtful else last)
            if not doubtful:
                await self._end_update()
        protection = "protected by a password" if password is not None else "without secrets"
        apart = f", {doubtful.text} doubtful" if doubtful else ""
        detail = f"{made['file']}, {format_bytes(made['bytes'])}, {protection}{apart}"
        await self._audit.note("backup made", origin, detail)
        return made

    async def prove(self, password: str | None, told: Callable[[Progress], None]) -> None:
        """Do all of an archive's making that may be refused; nothing is left of it.

        Raises:
            BackupError: rows of the database are doubtful.
            CallistoError: it could not be made.
        """
        order = await self._order(password, "", patient=True)
        async with self._one_at_a_time.held("system", "proves a backup"):
            doubtful = Doubtful.from_data(await self._work("backup proof", order, told))
        require_no_doubtful(doubtful, "a backup can be made")

    async def _order(self, password: str | None, note: str, *, patient: bool) -> dict[str, Any]:
        """Return the worker's order for an archive; raises as :meth:`create`."""
        if password is not None:
            password = composed(password)
            require_password(password)
        if len(note) > LONGEST_NOTE or not (note.isprintable() or not note):
            raise UsageError(f"note: a line of at most {LONGEST_NOTE} printable characters; nothing was changed")
        if not patient:
            self._one_at_a_time.require_free()
        if self._store.fault is not None:
            raise BackupError(f"only a sound database can be backed up: {self._store.fault}")
        return {
            **asdict(self._identified),
            "live": str(self._store.file.absolute()),
            "media": str(self._folder.media.absolute()),
            "folder": str(self._folder.backup.absolute()),
            "settings": await look_up(str(self._settings), self._settings, partial(_resolved, self._settings)),
            "password": password,
            "note": note,
            "at": self._clock.now().isoformat(),
        }

    async def list(self) -> list[Listed]:
        """Return the archives, the newest first.

        Raises:
            BackupError: the folder cannot be read.
        """
        known = {} if self._store.fault is not None else (await self._state())[0]
        return await look_up(
            "backup", self._folder.backup, partial(list_archives, self._folder.backup, known, self._clock.now())
        )

    def names(self) -> Sequence[str]:
        """Return the names of the archives, the newest first; none where the folder cannot be read."""
        with suppress(BackupError):
            return [each.path.name for each in archives(self._folder.backup)]
        return []

    async def require(self, name: str) -> Path:
        """Return the file of a name in the folder of backups, under any name, or of a whole path.

        Raises:
            BackupError: there is none, or its disk does not answer.
        """
        return await look_up(name, self._folder.backup / name, partial(find, self._folder.backup, name))

    async def require_here(self, name: str) -> Path:
        """Return the archive of a name in the folder of backups; raises as :meth:`require`."""
        return await look_up(name, self._folder.backup / name, partial(find_here, self._folder.backup, name))

    async def newest(self) -> str:
        """Return the name of the newest archive.

        Raises:
            BackupError: there is none, or the folder cannot be read.
        """
        for each in await look_up("backup", self._folder.backup, partial(archives, self._folder.backup)):
            return each.path.name
        raise BackupError(f"there is no backup in {named(self._folder.backup)}: 'backup create' makes one")

    async def is_protected(self, name: str) -> bool:
        """Say whether a password protects an archive, by its first bytes; raises as :meth:`require`."""
        return await look_up(name, self._folder.backup / name, lambda: is_protected(find(self._folder.backup, name)))

    async def verify(
        self, origin: Origin, name: str, *, password: str | None, told: Callable[[Progress], None]
    ) -> dict[str, Any]:
        """Look at all of an archive, and return what it says of itself.

        Raises:
            BackupPasswordError: the password is wrong, missing, or there where none is needed.
            BackupError: it is not to be used; says why.
            UsageError: something else works on the whole database.
        """
        path = await self.require(name)
        self._one_at_a_time.require_free()
        order = {"file": str(path.absolute()), "folder": str(self._folder.backup.absolute()), "password": password}
        async with self._one_at_a_time.held(origin.who, "verifies a backup"):
            try:
                found = await self._work("verify", order, told)
            except BackupError as error:
                self._log.warning("backup not verified", file=name, reason=str(error))
                raise
            now, name = self._clock.now().isoformat(), path.name
            if self._store.fault is None and path.parent == self._folder.backup:
                before = (await self._state())[0].get(name, Known())
                note, doubtful = found["note"][:_NOTE_KEPT], _count_of(Doubtful.from_data(found["doubtful"]))
                version = found["product_version"]
                known = replace(before, verified=now, version=version, note=note, doubtful=doubtful)
                await self._keep({name: known}, None)
        await self._audit.note("backup verified", origin, name)
        return found

    async def note_delivery(self, name: str, target: str) -> None:
        """Remember where a copy of an archive is."""
        known = (await self._state())[0].get(name, Known())
        await self._keep({name: replace(known, target=target[:_TARGET_KEPT])}, None)

    async def note_removal(self, names: Collection[str], target: str) -> None:
        """Remember that the copies of these archives are no longer there."""
        known = (await self._state())[0]
        gone = {name: replace(known[name], target="") for name in names if name in known}
        await self._keep(
            {name: each for name, each in gone.items() if known[name].target == target[:_TARGET_KEPT]}, None
        )

    async def delete(self, origin: Origin, name: str, *, patient: bool = False) -> None:
        """Remove an archive for good; ``patient`` as for :meth:`create`.

        Raises:
            BackupError: there is none of that name, or it cannot be removed.
            UsageError: something else works on the whole database.
        """
        if not patient:
            self._one_at_a_time.require_free()
        async with self._one_at_a_time.held(origin.who, "deletes a backup"):
            try:
                await look(self._folder.backup, partial(delete, self._folder.backup, name))
            except OSError as error:
                raise BackupError(f"{quoted(name)} may still be there: {error.strerror}; look again later") from None
            await self._keep({}, None)
        await self._audit.note("backup deleted", origin, name)

    async def last_good(self) -> LastGood | None:
        """Return the last archive that was made and verified here, whether or not it is still there.

        Raises:
            StoreError: the database cannot answer.
        """
        return (await self._state())[1]

    async def _work(self, job: str, order: dict[str, Any], told: Callable[[Progress], None]) -> dict[str, Any]:
        try:
            return await self._workshop.run(job, order, told, self._variable_fault)
        except DamagedDatabaseError:
            await know_damage(self._store)
            raise
        finally:
            with suppress(OSError):  # of a worker that was killed; else there is nothing
                await look(self._folder.backup, partial(remove_unfinished, self._folder.backup))

    def _variable_fault(self, name_and_text: Sequence[str]) -> str | None:
        name, text = name_and_text
        return self._variables.fault_of(name, text)

    async def _state(self) -> tuple[dict[str, Known], LastGood | None]:
        text = await self._store.get_state(BACKUP_STATE)
        try:
            return parse_state(text) if text else ({}, None)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._log.warning("what is kept of the backups is not readable")
            return {}, None

    async def _keep(self, more: dict[str, Known], last: LastGood | None) -> None:
        """Remember what is known of the archives that are there; the archive itself counts, whether or not it is.

        Nothing is written where nobody can tell which are there: what is known of the others would be forgotten.
        """
        try:
            known, before = await self._state()
            names = await self.recent_names.read()  # the newest first: of many, the last find no room
            there = await look_up("backup", self._folder.backup, partial(names_in, self._folder.backup))
            known = {name: each for name, each in (known | more).items() if name in there}
            kept = {name: known[name] for name in dict.fromkeys([*names, *known]) if name in known}
            await self._store.set_state(BACKUP_STATE, format_state(kept, last or before))
        except CallistoError as error:
            self._log.warning("what is known of the backups was not kept", reason=str(error))


def require_no_doubtful(doubtful: Doubtful, what: str, advice: str = "'repair' does so here") -> None:
    """Refuse to call a backup good that has rows which a restore sets apart.

    Args:
        doubtful: Those rows.
        what: What is true of the backup all the same, as in ``x.zip was made``.
        advice: What to do.

    Raises:
        BackupError: there are some.
    """
    if doubtful:
        first = "".join(f", first {fault}" for fault in doubtful.faults[:1])
        raise BackupError(f"{what}, but a restore sets apart {doubtful.text} of it{first}; {advice}")


def _count_of(doubtful: Doubtful) -> str:
    return str(doubtful.count) if doubtful else ""


def _resolved(settings: Path) -> str:
    """Return the whole path of the settings file, blank where there is none."""
    return str(settings.resolve()) if settings.is_file() else ""
