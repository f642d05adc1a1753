"""The two tables of the system variables: ``variable``, what is set now, and ``variable_change``, every change of it.

A change and the value that it sets are written in one transaction: neither is ever there without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from callisto_telnetd.origin import Origin

LAST_CHANGE_STATE = "last_change"
"""The key under which the highest number that a change ever had is kept, where no row tells it."""
_COLUMNS = "id, batch, at, name, old, new, who, door, source, note, undoes"
_PAGE = 200  # rows that a search through the history holds at a time
_SET = "INSERT INTO variable (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_CLEAR = "DELETE FROM variable WHERE name = ?"
_INSERT = f"INSERT INTO variable_change ({_COLUMNS}) VALUES (({{id}}), ({{batch}}), ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NUMBER = "coalesce((SELECT {}), 0)"
# A number is given once: where rows were lost, a repair or a restore has kept the highest one in ``state``.
_NEXT = (
    f"SELECT 1 + max({_NUMBER.format('max(id) FROM variable_change')},"
    f" {_NUMBER.format(f'CAST(value AS INTEGER) FROM state WHERE key = {LAST_CHANGE_STATE!r}')})"
)
# A batch has the number of its first change.
_BEGIN_BATCH = _INSERT.format(id=_NEXT, batch=_NEXT)
_CONTINUE_BATCH = _INSERT.format(id="NULL", batch="SELECT batch FROM variable_change ORDER BY id DESC LIMIT 1")


class Database(Protocol):
    """What the variables need of the store."""

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        ...

    async def apply(
        self,
        statements: Sequence[tuple[str, Sequence[object]]],
        then: Callable[[list[int]], None] | None = None,
    ) -> list[int]:
        """Run all statements in one durable transaction that the caller's cancellation cannot stop half-way.

        Returns the row id after each statement, in order. ``then`` is called with them on the event loop, right after
        the commit and whether or not the caller is still there.
        """
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is durable. ``old`` and ``new`` are texts, or None for the default."""

    id: int
    batch: int
    """The id of the first change that was made together with this one."""
    at: str
    """Appliance time, ISO 8601 with offset, to the second."""
    name: str
    old: str | None
    new: str | None
    who: str
    door: str
    source: str
    note: str
    undoes: int | None
    """The id of the change that this one takes back."""


@dataclass(frozen=True, slots=True)
class Step:
    """A change that is still to be written."""

    name: str
    old: str | None
    new: str | None
    undoes: int | None = None


class Ledger:
    """Reads and writes the two tables, one writer at a time; it knows nothing of kinds and defaults."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def values(self) -> dict[str, str]:
        """Return every stored text by name, also of names that no variable has."""
        rows = await self._database.fetch("SELECT name, value FROM variable")
        return dict(rows)

    async def count(self) -> int:
        """Return how many texts are stored, those of names that no variable has with them."""
        return int((await self._database.fetch("SELECT count(*) FROM variable"))[0][0])

    async def latest(self) -> dict[str, Change]:
        """Return the last change of each name."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM variable_change WHERE id IN (SELECT max(id) FROM variable_change GROUP BY name)"
        )
        return {change.name: change for change in (Change(*row) for row in rows)}

    async def last_number(self) -> int:
        """Return the highest number that a change ever had; 0 where there was none."""
        return int((await self._database.fetch(_NEXT))[0][0]) - 1

    async def history(self, name: str | None, limit: int) -> list[Change]:
        """Return the last ``limit`` changes, of one name or of all, the newest last."""
        where, parameters = ("", ()) if name is None else ("WHERE name = ?", (name,))
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM variable_change {where} ORDER BY id DESC LIMIT ?", (*parameters, limit)
        )
        return [Change(*row) for row in reversed(rows)]

    async def change(self, change_id: int) -> Change | None:
        """Return the change of that id, if there is one."""
        rows = await self._database.fetch(f"SELECT {_COLUMNS} FROM variable_change WHERE id = ?", (change_id,))
        return Change(*rows[0]) if rows else None

    async def user_exists(self, number: int) -> bool:
        """Return whether a user has that internal number."""
        return bool(await self._database.fetch("SELECT 1 FROM user WHERE number = ?", (number,)))

    async def latest_undoable(self, wanted: Callable[[Change], bool]) -> list[Change]:
        """Return the changes that are no undo, not undone, and ``wanted``: those of the newest batch that has any."""
        links = await self._database.fetch(
            "SELECT id, undoes FROM variable_change WHERE undoes IS NOT NULL ORDER BY id DESC"
        )
        undone: set[int] = set()
        for undo, target in links:  # newest first: whether an undo is itself undone is known before it counts
            if undo not in undone:
                undone.add(target)
        chosen: list[Change] = []
        before = 2**63 - 1  # SQLite's highest row id
        while rows := await self._database.fetch(
            f"SELECT {_COLUMNS} FROM variable_change WHERE id < ? AND undoes IS NULL ORDER BY id DESC LIMIT ?",
            (before, _PAGE),
        ):
            for change in (Change(*row) for row in rows):
                if chosen and change.batch != chosen[0].batch:
                    return chosen
                if change.id not in undone and wanted(change):
                    chosen.append(change)
            before = rows[-1][0]
        return chosen

    async def write(
        self, steps: Sequence[Step], at: str, by: Origin, note: str, then: Callable[[Sequence[Change]], None]
    ) -> list[Change]:
        """Write the steps as one batch, all or none, and return them as changes; ``then`` gets them at the commit."""
        statements: list[tuple[str, Sequence[object]]] = []
        for step in steps:
            statements.append((_CLEAR, (step.name,)) if step.new is None else (_SET, (step.name, step.new)))
            insert = _CONTINUE_BATCH if len(statements) > 1 else _BEGIN_BATCH
            statements.append(
                (insert, (at, step.name, step.old, step.new, by.who, by.door, by.source, note, step.undoes))
            )
        changes: list[Change] = []

        def committed(row_ids: list[int]) -> None:
            ids = row_ids[1::2]  # of each pair, the change
            changes.extend(
                Change(id, ids[0], at, step.name, step.old, step.new, by.who, by.door, by.source, note, step.undoes)
                for id, step in zip(ids, steps, strict=True)
            )
            then(changes)

        await self._database.apply(statements, committed)
        return changes
