"""The database looks after itself: a quick check after each start, a full one on the schedule.

Rules:

* The quick check (``PRAGMA quick_check``) reads every page; it runs in the background, and nobody waits for it.
* The full check is everything that can be said without repairing: pages, rows and indexes, references, the variables'
  values, and whatever ``more`` adds, such as every value of every row.
* From the moment a fault of structure is known, nothing is written to the file (:attr:`Store.damage`): what came of
  the check then waits in memory. A full check that finds none ends that.
* A fault is a standing notice until a check of the same kind, or a fuller one, finds none.
* A check that cannot be done (the file is held, the disk fails) says so, and leaves what was known as it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.check import check_foreign_keys, check_integrity, check_quickly
from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import DamagedDatabaseError, StoreError
from callisto_telnetd.maintenance.database_lock import DatabaseLock
from callisto_telnetd.maintenance.snapshots import Snapshots
from callisto_telnetd.maintenance.workshop import Workshop
from callisto_telnetd.quantities import counted, format_duration
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.variables import Registry

CHECK_STATE = "last_check"
"""The key under which the last check's time and result are kept in the database."""

Kind = Literal["quick", "full"]
_KINDS: tuple[Kind, ...] = ("quick", "full")
_NOTICE = "database check: "
_MOST_STATE = 4096
_MOST_LOGGED = 20
SOUND = "sound"

ROWS = "Values"
"""The name of the step that looks at every value."""

Finding = Callable[[], Awaitable[list[str]]]


class Step(NamedTuple):
    """A part of the full check."""

    name: str
    find: Finding
    """Returns the faults, a line each; may raise StoreError."""
    of_structure: bool = False
    """Whether a fault means that the file itself is damaged, not what somebody has put into it."""


@dataclass(frozen=True, slots=True)
class Check:
    """When a check was, and what it found."""

    at: str
    """ISO 8601."""
    result: str
    """``sound``, or how many faults."""
    kind: Kind | Literal[""] = ""
    """Blank for one that was kept by an earlier version, or by Repair Database."""

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return self.result == SOUND

    def describe(self, clock: Clock) -> str:
        """Return ``2026-11-22 03:30:00, 1 day ago, full, sound``."""
        stamp = clock.format_stamp(self.at)
        return ", ".join(part for part in (stamp, _age(self.at, clock), self.kind, self.result) if part)


@dataclass(frozen=True, slots=True)
class Checks:
    """What is known of the checks: the newest, and the newest full one."""

    last: Check | None = None
    full: Check | None = None

    def to_json(self) -> str:
        """Return what :meth:`from_json` takes; the newest check stands in it as it always has."""
        data: dict[str, Any] = asdict(self.last) if self.last else {}
        return json.dumps(data | ({"full": asdict(self.full)} if self.full else {}))

    @classmethod
    def from_json(cls, text: str) -> Checks:
        """Return what was kept, in the form of any version.

        Raises:
            ValueError: it is none of ours.
        """
        data = json.loads(text) if len(text) <= _MOST_STATE else None
        if not isinstance(data, dict):
            raise ValueError("no checks")
        full = data.get("full")
        return cls(_check(data) if "at" in data else None, None if full is None else _check(full))


def rows_step(store: Store, workshop: Workshop) -> Step:
    """Return the step that looks at every value of every row, in a worker: sessions go on meanwhile."""

    async def find() -> list[str]:
        found = await workshop.run("rows", {"live": str(store.file.absolute())}, lambda _progress: None)
        return list(Doubtful.from_data(found).faults)

    return Step(ROWS, find)


def _check(data: object) -> Check:
    if not isinstance(data, Mapping):
        raise ValueError("no check")
    at, result, kind = data.get("at"), data.get("result"), data.get("kind", "")
    texts = [each for each in (at, result) if isinstance(each, str) and each.isprintable() and len(each) <= 100]
    if len(texts) != 2 or kind not in ("", *_KINDS):
        raise ValueError("no check")
    datetime.fromisoformat(texts[0])
    return Check(texts[0], texts[1], kind)


class SelfCheck:
    """Checks the database of one appliance, keeps what came of it, and has the faults told."""

    def __init__(
        self,
        *,
        store: Store,
        variables: Registry,
        presence: Presence,
        clock: Clock,
        log: Log,
        repairing: DatabaseLock,
        snapshots: Snapshots,
        more: Sequence[Step] = (),
    ) -> None:
        """Make the check.

        Args:
            store: The database.
            variables: The system variables.
            presence: The sessions that faults are told to.
            clock: The appliance's clock.
            log: The server's log.
            repairing: Held by whoever puts another database in the place of this one.
            snapshots: The verified copies of the database.
            more: Steps that the full check does besides its own: the check of all values.
        """
        self._store = store
        self._variables = variables
        self._presence = presence
        self._clock = clock
        self._log = log
        self._repairing = repairing
        self._snapshots = snapshots
        self._more = more
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._faulty: set[Kind] = set()
        """The checks whose last result was no good one."""
        self._unkept: Checks | None = None
        """What is known and could not be kept in the database."""

    async def open(self) -> None:
        """Have the faults that earlier checks have found told again."""
        known = await self.known()
        for check in (known.full, known.last):
            if check is not None:
                self._tell(check)

    def start(self) -> None:
        """Begin the quick check in the background."""
        self._task = asyncio.create_task(self._check_quickly(), name="quick check")

    async def close(self) -> None:
        """End the check that runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def known(self) -> Checks:
        """Return what is known of the checks; what is unreadable is not."""
        if self._unkept is not None:
            return self._unkept
        try:
            text = await self._store.get_state(CHECK_STATE)
            return Checks.from_json(text) if text else Checks()
        except StoreError:
            return Checks()
        except (ValueError, TypeError, RecursionError):
            self._log.warning("the kept result of the last check is unreadable")
            return Checks()

    async def run(self, kind: Kind) -> list[str]:
        """Check, keep the result, have faults told, and return them, a line each.

        Raises:
            StoreError: the check cannot be done now.
        """
        async with self._lock:
            faults: list[str] = []
            for step in self._steps(kind):
                try:
                    found = await step.find()
                except DamagedDatabaseError as error:
                    found = [f"{step.name}: {error}"]
                if found and step.of_structure:
                    await self._store.note_damage(found[0])
                faults += found
            if kind == "full" and not faults:
                await self._store.note_sound()
            await self.note(kind, faults)
        return faults

    async def run_planned(self, _reason: str) -> str:
        """Do the full check for the schedule, after a repair that runs; keep a copy of what is sound.

        Returns:
            What came of it.

        Raises:
            DamagedDatabaseError: there are faults.
            StoreError: the check cannot be done now.
        """
        async with self._repairing.held("system", "checks the database"):
            if faults := await self.run("full"):
                raise DamagedDatabaseError(f"the database has {counted(len(faults), 'fault')}; choose Repair Database")
            try:
                copy = await self._snapshots.keep(self._store)
            except StoreError as error:
                self._log.warning("no backup of the database was kept", reason=str(error))
                return f"the database is sound; no backup of it was kept: {error}"
        return f"the database is sound; backup kept: {copy.path.name}"

    async def note(self, kind: Kind, faults: Sequence[str]) -> None:
        """Keep what a check has found, have faults told, and end the notice where there are none any more."""
        at = self._clock.now().isoformat(timespec="seconds")
        check = Check(at, counted(len(faults), "fault") if faults else SOUND, kind)
        for fault in faults[:_MOST_LOGGED]:
            self._log.error("database fault", check=kind, fault=fault)
        self._log.info("database checked", check=kind, result=check.result)
        self._tell(check)
        known = await self.known()
        checks = Checks(check, check if kind == "full" else known.full)
        try:
            await self._store.set_state(CHECK_STATE, checks.to_json())
            self._unkept = None
        except StoreError as error:
            self._unkept = checks
            self._log.warning("check result not kept", reason=str(error))

    def _steps(self, kind: Kind) -> list[Step]:
        if kind == "quick":
            return [Step("Pages and rows", lambda: check_quickly(self._store), of_structure=True)]
        return [
            Step("Pages, rows and indexes", lambda: check_integrity(self._store), of_structure=True),
            Step("References between tables", lambda: check_foreign_keys(self._store)),
            Step("System variables", self._variable_faults),
            *self._more,
        ]

    async def _variable_faults(self) -> list[str]:
        return list(self._variables.faults.values())

    def _tell(self, check: Check) -> None:
        kind: Kind = check.kind or "full"
        for each in _KINDS if kind == "full" else (kind,):  # a full check has looked at all that a quick one does
            self._presence.clear(_NOTICE + each)
            self._faulty.discard(each)
        if check.sound:
            return
        self._faulty.add(kind)
        if kind == "full" or "full" not in self._faulty:  # one notice of it is enough
            stamp = self._clock.format_stamp(check.at)
            self._presence.stand(
                _NOTICE + kind, f"the database has {check.result} ({kind} check of {stamp}): choose Repair Database"
            )

    async def _check_quickly(self) -> None:
        try:
            await self.run("quick")
        except StoreError as error:
            self._log.warning("the quick check could not be done", reason=str(error))


def _age(at: str, clock: Clock) -> str:
    """Return how long ago that was, in its largest unit; blank where the clock says that it is yet to come."""
    passed_s = clock.time() - datetime.fromisoformat(at).timestamp()
    if passed_s < 0:
        return ""
    if passed_s >= 86_400:
        return f"{counted(int(passed_s // 86_400), 'day')} ago"
    return f"{format_duration(passed_s)} ago"
