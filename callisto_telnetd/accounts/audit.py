"""The audit: every log-in, failure, logout and change, with who, from where, through which door and when.

Changes are kept in the transaction that makes them. Log-ins must work on a full disk: what cannot be kept of them is
said in the log instead, and is not an error of the session's. Nobody waits for a database that is held or unusable
either: up to 1,000 entries wait in memory, in their order, until it is back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.schema import ADDED_STATE
from callisto_telnetd.db.store import Statement, Store
from callisto_telnetd.errors import HeldError, StoreError
from callisto_telnetd.origin import Origin
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.secret_text import without_secrets
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.work import Tasks

_MOST_ROWS = 100_000
_TRIM_EVERY = 100
"""Entries between two looks for those that are too many."""
_MAX_DETAIL = 200
_INSERT = "INSERT INTO audit (at, event, who, door, source, detail) VALUES (?, ?, ?, ?, ?, ?)"
_TRIM_ADDED = (
    "DELETE FROM audit WHERE id IN (SELECT a.id FROM"
    " (SELECT iif(json_valid(value), value, '[]') AS ranges FROM state WHERE key = ?) AS s, json_each(s.ranges) AS r"
    " JOIN audit AS a ON r.type = 'array'"
    " AND a.id BETWEEN iif(r.type = 'array', r.value, '[]') ->> 0 AND iif(r.type = 'array', r.value, '[]') ->> 1"
    " ORDER BY a.id LIMIT max(0, (SELECT count(*) FROM audit) - ?))"
)
"""Entries that a restore has added from elsewhere are older than their numbers, and go before all others."""
_TRIM = "DELETE FROM audit WHERE id <= (SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET ?)"
MOST_WAITING = 1000
_BATCH = 100
DENIED = "access denied"
"""The event of a failed log-in: who causes it may be a stranger, and causes many."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of the audit."""

    number: int
    at: str
    event: str
    who: str
    door: str
    source: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event, and what keeps it."""

    event: str
    statements: tuple[Statement, ...]


class Audit:
    """Writes and reads the audit table; keeps its last 100,000 rows, and up to a hundred more."""

    def __init__(self, store: Store, clock: Clock, log: Log, strangers: RecordRate) -> None:
        self._store = store
        self._strangers = strangers
        self._clock = clock
        self._log = log
        self._waiting: deque[_Waiting] = deque()
        self._lost = 0
        self._until_trim = 0
        self._pauses = 0
        self._tasks = Tasks()
        self._writing: asyncio.Task[None] | None = None
        self._closing = False
        store.on_return.append(self._begin_writing)

    @property
    def waiting(self) -> int:
        """How many entries wait for the database."""
        return len(self._waiting)

    def statements(self, event: str, origin: Origin, detail: str = "") -> list[Statement]:
        """Return what keeps the event, for the transaction of the change itself."""
        row = (
            self._clock.now().isoformat(),
            event,
            clean(origin.who, 64),
            origin.door,
            origin.source,
            clean(without_secrets(detail), _MAX_DETAIL),
        )
        kept: list[Statement] = [(_INSERT, row)]
        if self._until_trim <= 0:  # rows are counted, because a restore or a repair may pass numbers over
            self._until_trim = _TRIM_EVERY
            kept += [(_TRIM_ADDED, (ADDED_STATE, _MOST_ROWS)), (_TRIM, (_MOST_ROWS,))]
        self._until_trim -= 1
        return kept

    async def note(self, event: str, origin: Origin, detail: str = "", *, also: tuple[Statement, ...] = ()) -> None:
        """Log the event, and keep it (with ``also``) as far as the database can, also where the caller is cancelled."""
        self._tell(event, origin, detail)
        entry = _Waiting(event, (*also, *self.statements(event, origin, detail)))
        if self._waiting or not self._store.usable or self._pauses:
            self._keep_waiting(entry)
            return
        await self._tasks.finish(self._write(entry))

    def _tell(self, event: str, origin: Origin, detail: str) -> None:
        fields = {"who": origin.who, "source": origin.source, "door": origin.door}
        if detail:
            fields["detail"] = detail
        if event == DENIED:
            self._strangers.tell(self._log.info, event, of=source_of(origin.source), **fields)
        else:
            self._log.info(event, **fields)

    async def _write(self, entry: _Waiting) -> None:
        try:
            await self._store.apply(entry.statements, patient=False)
        except HeldError:
            self._keep_waiting(entry)
        except StoreError as error:
            if not self._store.usable:  # it is this entry that has found the damage
                self._keep_waiting(entry)
                return
            self._log.warning("not kept in the audit", event_kind=entry.event, reason=str(error))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have entries wait in memory while the block runs: what they would be written to may not last."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if self._waiting and self._store.usable:
                self._begin_writing()

    def _keep_waiting(self, entry: _Waiting) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(entry)
            if self._store.usable:
                self._begin_writing()
            return
        if not self._lost:
            self._log.warning("not kept in the audit", event_kind=entry.event, reason="too many wait for the database")
        self._lost += 1

    def _begin_writing(self) -> None:
        """Write what waits, now that the database is back."""
        if not self._pauses and (self._writing is None or self._writing.done()):
            self._writing = self._tasks.begin(self._write_waiting())

    async def _write_waiting(self) -> None:
        count = _BATCH
        while self._waiting and self._store.usable and not self._pauses:
            batch = list(islice(self._waiting, count))
            try:
                statements = [each for entry in batch for each in entry.statements]
                await self._store.apply(statements, patient=False)
            except HeldError:
                if self._closing or not self._store.usable:
                    return  # the next return tries again
                continue  # a check reads it: each try has waited for some seconds
            except StoreError as error:
                if not self._store.usable:
                    return
                if len(batch) > 1:
                    count = 1  # of many, one may be at fault
                    continue
                self._log.warning("not kept in the audit", event_kind=batch[0].event, reason=str(error))
            for _ in batch:
                self._waiting.popleft()
        if self._lost and not self._waiting:
            self._log.warning("entries missing in the audit: too many waited for the database", count=self._lost)
            self._lost = 0

    async def close(self) -> None:
        """Return once what waits is written, where it can be; say in the log what cannot."""
        self._closing = True
        await self._tasks.ended()
        if missing := len(self._waiting) + self._lost:
            self._log.warning("entries missing in the audit: the database did not come back", count=missing)

    async def last_number(self) -> int:
        """Return the highest number of an entry; 0 for none.

        Raises:
            StoreError: the database cannot answer.
        """
        return int((await self._store.fetch("SELECT coalesce(max(id), 0) FROM audit"))[0][0])

    async def entries(self, count: int) -> list[AuditEntry]:
        """Return the newest ``count`` entries, oldest first."""
        rows = await self._store.fetch(
            "SELECT id, at, event, who, door, source, detail FROM audit ORDER BY id DESC LIMIT ?", (count,)
        )
        return [AuditEntry(*row) for row in reversed(rows)]
