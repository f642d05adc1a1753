"""Demonstration data put into a real appliance: users, mailboxes, messages with their recordings, call records.

* A batch's recordings are on the disk before the transaction of the rows that name them: kill -9 at any moment leaves
  rows that are whole, and at most a batch of recordings that no row names. The same order writes those again.
* Batches are small transactions of the store's: sessions go on beside them. Rows are made in a thread.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from callisto_telnetd.db.media import Media
from callisto_telnetd.db.store import Statement, Store
from callisto_telnetd.errors import DiskFullError, FolderError, StoreError, UsageError
from callisto_telnetd.maintenance.demo_pieces import HIGHEST_NUMBER, LOWEST_NUMBER, Batch, Order
from callisto_telnetd.quantities import counted, format_bytes
from callisto_telnetd.work import in_thread

MOST_USERS = HIGHEST_NUMBER - LOWEST_NUMBER + 1
MOST_MESSAGES = 200_000
MOST_CALLS = 2_000_000
DEFAULT_USERS, DEFAULT_MESSAGES, CALLS_A_MESSAGE = 200, 5000, 10

# What one takes of the disk, blocks of 4 KiB and indexes counted, rounded up from what was measured.
_USER_BYTES = 90_000
_MESSAGE_BYTES = 33_000
_CALL_BYTES = 150
_RESERVE_BYTES = 16 << 20
_MOST_PARAMETERS = 10_000  # SQLite takes 32,766

_COLUMNS = {
    "user": "number, name, phone",
    "mailbox": "number, pin_hash, language, quota_s",
    "greeting": "mailbox, occasion, at, length_ms, recording",
    "message": "mailbox, kind, at, caller, length_ms, heard, recording, transcript",
    "call_record": "at, caller, called, user, result, ring_ms, talk_ms",
}


@dataclass(slots=True)
class Made:
    """What is there of the demonstration data up to now."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COLUMNS, 0))
    recordings: int = 0
    recorded_bytes: int = 0

    def add(self, batch: Batch, size: int) -> None:
        """Count a batch that is whole."""
        for table, rows in batch.rows.items():
            self.rows[table] += len(rows)
        self.recordings += len(batch.recordings)
        self.recorded_bytes += size

    def __str__(self) -> str:
        counts = (
            counted(self.rows["user"], "user"),
            counted(self.rows["message"], "message"),
            counted(self.rows["call_record"], "call record"),
        )
        return f"{', '.join(counts)}, {counted(self.recordings, 'recording')} of {format_bytes(self.recorded_bytes)}"


class Demo:
    """One filling of an appliance, begun by :meth:`prepare` and done by iterating :meth:`fill`."""

    def __init__(self, store: Store, media: Media, order: Order) -> None:
        self._store = store
        self._media = media
        self.order = order
        self.numbers: list[int] = []
        """The internal numbers of the new users."""
        self.made = Made()

    async def prepare(self, *, beside: bool) -> None:
        """Find the numbers of the users, and refuse before anything has changed.

        Args:
            beside: Whether the data may stand beside users or call records that are there already.

        Raises:
            UsageError: the appliance is in use, or has too few free numbers.
            DiskFullError: says how much is needed, and how much is free.
            StoreError: the database cannot be read.
        """
        taken = {int(row[0]) for row in await self._store.fetch("SELECT number FROM user")}
        called = bool(await self._store.fetch("SELECT 1 FROM call_record LIMIT 1"))
        if (taken or called) and not beside:
            there = counted(len(taken), "user") if taken else "call records"
            raise UsageError(
                f"this appliance is in use: {there} there already; demonstration data cannot be taken out again;"
                " with 'yes' as the last word it is added beside them"
            )
        free = [number for number in range(LOWEST_NUMBER, HIGHEST_NUMBER + 1) if number not in taken]
        if len(free) < self.order.users:
            raise UsageError(
                f"users: {self.order.users} is more than the free internal numbers from {LOWEST_NUMBER} to"
                f" {HIGHEST_NUMBER}: {len(free)}"
            )
        self.numbers = free[: self.order.users]
        await in_thread(self._require_room)

    def _require_room(self) -> None:
        order = self.order
        need = order.users * _USER_BYTES + order.messages * _MESSAGE_BYTES + order.calls * _CALL_BYTES + _RESERVE_BYTES
        try:
            disk = os.statvfs(self._media.folder)
        except OSError as error:
            raise StoreError(f"the disk of the recordings cannot be looked at: {error.strerror}") from None
        free = disk.f_bavail * disk.f_frsize
        if free < need:
            raise DiskFullError(
                f"the disk has no room for it: {format_bytes(free)} free, about {format_bytes(need)} needed;"
                " nothing was changed"
            )

    async def fill(self, now: datetime, *, first: Sequence[Statement]) -> AsyncGenerator[Made, None]:
        """Yield what is made after each batch; whoever goes on no more leaves what is made whole.

        Args:
            now: The appliance's time; everything happened in the 90 days before.
            first: Statements of the first transaction: what the audit keeps of it.

        Raises:
            StoreError: the disk or the database fails; says what is there.
            FolderError: the recordings cannot be written; says what is there.
        """
        work = await in_thread(self._begin, now)
        also = list(first)
        try:
            while (done := await in_thread(self._record_next, work)) is not None:
                batch, size = done
                await self._store.apply([*also, *_inserts(batch)])
                also.clear()
                self.made.add(batch, size)
                yield self.made
        except (StoreError, FolderError) as error:
            reason = str(error).removesuffix("; nothing was changed")
            there = f"what is there is whole: {self.made}" if any(self.made.rows.values()) else "nothing was changed"
            raise type(error)(f"{reason}; {there}") from None

    def _begin(self, now: datetime) -> Iterator[Batch]:
        from callisto_telnetd.maintenance.demo_rows import batches  # noqa: PLC0415 - slow to import, and seldom needed

        return batches(self.order, self.numbers, now)

    def _record_next(self, work: Iterator[Batch]) -> tuple[Batch, int] | None:
        batch = next(work, None)
        return None if batch is None else (batch, self._media.write(batch.recordings))


def _inserts(batch: Batch) -> Iterator[Statement]:
    """Yield statements that insert many rows each: one way to SQLite's thread and back for hundreds of rows."""
    for table, rows in batch.rows.items():
        columns = _COLUMNS[table]
        width = columns.count(",") + 1
        values = f"({', '.join('?' * width)})"
        step = _MOST_PARAMETERS // width
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            sql = f"INSERT INTO {table} ({columns}) VALUES {', '.join([values] * len(part))}"
            yield sql, [value for row in part for value in row]
