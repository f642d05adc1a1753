"""The audit: every log-in, failure, logout and change, with who, from where, through which door and when.

Changes are kept in the transaction that makes them. Log-ins must work on a full disk: what cannot be kept of them is
said in the log instead, and is not an error of the session's.
"""

from __future__ import annotations

from dataclasses import dataclass

from callisto_telnetd.clock import Clock
from callisto_telnetd.db.store import Statement, Store
from callisto_telnetd.errors import StoreError
from callisto_telnetd.origin import Origin
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.trace.sanitiser import clean

_MOST_ROWS = 100_000
_MAX_DETAIL = 200


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


class Audit:
    """Writes and reads the audit table; keeps its last 100,000 rows."""

    def __init__(self, store: Store, clock: Clock, log: Log) -> None:
        self._store = store
        self._clock = clock
        self._log = log

    def statements(self, event: str, origin: Origin, detail: str = "") -> list[Statement]:
        """Return what keeps the event, for the transaction of the change itself."""
        row = (
            self._clock.now().isoformat(),
            event,
            clean(origin.who, 64),
            origin.door,
            origin.source,
            clean(detail, _MAX_DETAIL),
        )
        return [
            ("INSERT INTO audit (at, event, who, door, source, detail) VALUES (?, ?, ?, ?, ?, ?)", row),
            ("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (_MOST_ROWS,)),
        ]

    async def note(self, event: str, origin: Origin, detail: str = "", *, also: tuple[Statement, ...] = ()) -> None:
        """Log the event, and keep it (with ``also``) as far as the database can."""
        self._log.info(
            event, who=origin.who, source=origin.source, door=origin.door, **({"detail": detail} if detail else {})
        )
        try:
            await self._store.apply([*also, *self.statements(event, origin, detail)])
        except StoreError as error:
            self._log.warning("not kept in the audit", event_kind=event, reason=str(error))

    async def entries(self, count: int) -> list[AuditEntry]:
        """Return the newest ``count`` entries, oldest first."""
        rows = await self._store.fetch(
            "SELECT id, at, event, who, door, source, detail FROM audit ORDER BY id DESC LIMIT ?", (count,)
        )
        return [AuditEntry(*row) for row in reversed(rows)]
