"""The system variables at work: reads from memory, every change durable before it is told.

Rules:

- Memory follows the disk. It changes only at a commit, on the event loop, in the callback that the database calls
  there, so that a caller who is cancelled meanwhile cannot leave the two apart.
- One change at a time. From reading the old value to the commit a change holds the lock, in a task of its own that
  its caller's cancellation does not reach. A caller cancelled while still waiting for the lock changes nothing.
- A text that equals the default is stored as no row: it *is* the default, and follows the edition.
- What is stored and cannot be used is left alone until it is set again; the default stands in for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from types import MappingProxyType
from typing import Self

from callisto_telnetd.errors import InvalidValueError, StaleValueError, UnknownChangeError, UsageError
from callisto_telnetd.origin import Origin
from callisto_telnetd.quantities import MOST_STORED_VARIABLES
from callisto_telnetd.variables.directory import Directory
from callisto_telnetd.variables.exchange import Difference, format_exchange, parse_exchange
from callisto_telnetd.variables.kinds import InternalNumber, Value
from callisto_telnetd.variables.ledger import Change, Database, Ledger, Step
from callisto_telnetd.variables.variable import Edition, Variable
from callisto_telnetd.work import Tasks

_LONGEST_NOTE = 200
_MOST_HISTORY = 10_000

Observer = Callable[[Change], None]


class _Slot:
    """One variable with its value in memory."""

    __slots__ = ("default_text", "fault", "last", "stored", "text", "value", "variable")

    def __init__(self, variable: Variable, edition: Edition, stored: str | None, last: Change | None) -> None:
        self.variable = variable
        self.default_text = variable.default_for(edition)
        self.last = last
        self.take(stored)

    def take(self, stored: str | None) -> None:
        """Take what is stored, None for nothing, or fall back to the default and keep the fault."""
        self.fault: str | None = None
        self.text = self.default_text
        if stored is not None:
            try:
                self.text = self.variable.canonical(stored)
                stored = None if self.text == self.default_text else self.text
            except InvalidValueError as error:
                self.fault = f"{error}; the default is used"
        self.stored = stored
        self.value: Value = self.variable.parse(self.text)


class Registry:
    """The variables of one edition over one database; make it with :meth:`load`, end it with :meth:`close`."""

    def __init__(
        self, catalogue: Sequence[Variable], database: Database, edition: Edition, now: Callable[[], datetime]
    ) -> None:
        self._directory = Directory(catalogue, edition)
        self._ledger = Ledger(database)
        self._edition = edition
        self._now = now
        self._slots: dict[str, _Slot] = {}
        self._strangers: dict[str, str] = {}
        self._observers: list[Observer] = []
        self._lock = asyncio.Lock()
        self._tasks = Tasks()

    @classmethod
    async def load(
        cls, catalogue: Sequence[Variable], database: Database, edition: Edition, now: Callable[[], datetime]
    ) -> Self:
        """Return the registry with its values read; ``now`` gives the appliance's time, with its zone.

        Raises:
            StoreError: the database cannot be read.
        """
        registry = cls(catalogue, database, edition, now)
        await registry.reload()
        return registry

    async def reload(self, *, alone: bool = False) -> None:
        """Read all values again, after the database was repaired or restored; observers are not called.

        Args:
            alone: Whether no change can be written meanwhile: one that waits for that is not waited for.
        """
        async with nullcontext() if alone else self._lock:
            self._take(await self._ledger.values(), await self._ledger.latest())

    def take_defaults(self) -> None:
        """Stand at the defaults, where the database cannot be read; :meth:`reload` ends that."""
        self._take({}, {})

    def _take(self, stored: Mapping[str, str], latest: Mapping[str, Change]) -> None:
        self._slots = {
            variable.name: _Slot(variable, self._edition, stored.get(variable.name), latest.get(variable.name))
            for variable in self._directory.variables
        }
        self._strangers = {name: self._directory.fault_of(name) for name in stored if name not in self._slots}

    async def close(self) -> None:
        """Return once the change that is being written, if any, is durable."""
        await self._tasks.ended()

    # Reading: from memory, at once.

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The edition's variables in the catalogue's order."""
        return self._directory.variables

    @property
    def faults(self) -> Mapping[str, str]:
        """Stored values that are not used, by name, each with the reason in one line."""
        wrong = {name: slot.fault for name, slot in self._slots.items() if slot.fault}
        return MappingProxyType(wrong | self._strangers)

    def fault_of(self, name: str, stored: str) -> str | None:
        """Return what is wrong with a text that is stored for a variable; None where nothing is, or nobody knows it."""
        if slot := self._slots.get(name):
            try:
                slot.variable.canonical(stored)
            except InvalidValueError as error:
                return str(error)
        return None

    def find(self, name: str) -> Variable:
        """Return a variable by its name, in any case, or by an unambiguous beginning; see :meth:`Directory.find`."""
        return self._directory.find(name)

    def select(self, pattern: str) -> tuple[Variable, ...]:
        """Return the variables whose names hold ``pattern``, or match it where it has ``*`` or ``?``."""
        return self._directory.select(pattern)

    def value(self, name: str) -> Value:
        """Return what the variable's text means: a number, a text, a plan, an address, or None for blank."""
        return self._slot(name).value

    def text(self, name: str) -> str:
        """Return the value as people see and type it; empty for blank."""
        return self._slot(name).text

    def default_text(self, name: str) -> str:
        """Return the default that the variable has in this edition."""
        return self._slot(name).default_text

    def is_default(self, name: str) -> bool:
        """Return whether the value is the default here."""
        slot = self._slot(name)
        return slot.text == slot.default_text

    @property
    def last_made(self) -> int:
        """Return the highest number of a change that is known in memory; 0 for none."""
        return max((slot.last.id for slot in self._slots.values() if slot.last), default=0)

    async def last_number(self) -> int:
        """Return the highest number that a change ever had; 0 where there was none.

        Raises:
            StoreError: the database cannot answer.
        """
        return await self._ledger.last_number()

    def differing(self) -> tuple[Variable, ...]:
        """Return the variables whose values are not the defaults here."""
        return tuple(slot.variable for slot in self._slots.values() if slot.text != slot.default_text)

    def last_change(self, name: str) -> Change | None:
        """Return the variable's last change, None where it never had one."""
        return self._slot(name).last

    def stored(self, name: str) -> str | None:
        """Return what is stored under a name; None for the default, and where no variable has that name here."""
        slot = self._slots.get(name)
        return slot.stored if slot else None

    def shown(self, name: str, stored: str | None) -> str:
        """Return a :class:`Change`'s ``old`` or ``new`` as text, with the default of today for None."""
        return self._slot(name).default_text if stored is None else stored

    # Changing: durable when it returns.

    async def assign(
        self, name: str, text: str, by: Origin, note: str = "", expected: str | None = None
    ) -> Change | None:
        """Set a variable; None if it has that value already.

        Args:
            name: The variable's.
            text: The new value.
            by: Who sets it.
            note: Why.
            expected: The value that the caller was shown; None where that does not matter.

        Raises:
            StaleValueError: it has another value than ``expected``.
            UnknownVariableError, UsageError: no such variable here, or a note too long.
            InvalidValueError: the variable does not take ``text``.
            StoreError: nothing has changed.
        """
        known = self.find(name).name

        async def plan() -> list[Step]:
            if expected is not None and (now := self.text(known)) != expected:
                raise StaleValueError(known, now)
            return await self._steps([(known, text, None)])

        changes = await self._commit(plan, by, note)
        return changes[0] if changes else None

    async def reset(self, name: str, by: Origin, note: str = "") -> Change | None:
        """Give a variable its default again; None if it has it already. Raises as :meth:`assign`."""
        known = self.find(name).name

        async def plan() -> list[Step]:
            return await self._steps([(known, None, None)])

        changes = await self._commit(plan, by, note)
        return changes[0] if changes else None

    async def change(self, number: int) -> Change:
        """Return the change of that number.

        Raises:
            UnknownChangeError: there is none.
        """
        change = await self._ledger.change(number) if 0 < number < 2**63 else None  # SQLite's row ids
        if change is None:
            raise UnknownChangeError(f"there is no change {number}")
        return change

    async def undoable(self, who: str | None = None) -> list[Change]:
        """Return the latest change that is no undo and is not undone, with its whole batch; none where there is none.

        Args:
            who: Whose changes count; None for everybody's.
        """
        return await self._ledger.latest_undoable(
            lambda change: (who is None or change.who == who) and self._can_undo(change)
        )

    async def put_back(
        self, chosen: Sequence[Change], by: Origin, shown: Mapping[str, str | None] | None = None
    ) -> list[Change]:
        """Put back what changes have replaced, all or none; empty where those values are there already.

        An undo can be put back too: what it took back then counts as done again.

        Args:
            chosen: The changes to undo.
            by: Who does.
            shown: What was stored, by name, when the caller looked; None where that does not matter.

        Raises:
            StaleValueError: a variable has changed since the caller looked.
            UsageError: the old value cannot be had any more.
        """

        async def plan() -> list[Step]:
            for name, stored in (shown or {}).items():
                if self.stored(name) != stored:
                    raise StaleValueError(name, self.text(name))
            return await self._steps([(change.name, change.old, change.id) for change in chosen])

        return await self._commit(plan, by, "")

    async def history(self, name: str | None = None, limit: int = 50) -> list[Change]:
        """Return the last changes, at most ``limit`` (1 to 10,000), of one variable or of all; the newest last."""
        return await self._ledger.history(
            None if name is None else self.find(name).name, max(1, min(limit, _MOST_HISTORY))
        )

    def export(self) -> str:
        """Return every variable of the edition as text that :meth:`differences` takes."""
        comment = f"Callisto system variables, edition {self._edition}, {self._now().isoformat(timespec='seconds')}"
        return format_exchange(comment, ((name, slot.text) for name, slot in self._slots.items()))

    def differences(self, text: str) -> list[Difference]:
        """Return what :meth:`apply_import` would change; variables that ``text`` does not name stay as they are.

        Raises:
            UsageError: a line that cannot be taken, with its number, or too long a text.
        """
        seen: dict[str, int] = {}
        differences = []
        for line, name, value in parse_exchange(text):
            try:
                variable = self._directory.find_whole(name)
                then = variable.canonical(value)
            except UsageError as error:
                raise UsageError(f"line {line}: {error}") from None
            if (first := seen.setdefault(variable.name, line)) != line:
                raise UsageError(f"line {line}: {variable.name} is set in line {first} already")
            if then != (now := self.text(variable.name)):
                differences.append(Difference(variable.name, now, then))
        return differences

    def differences_to(self, stored: Mapping[str, str]) -> list[Difference]:
        """Return what would change where these texts, by name, were all that is stored; the others are defaults."""
        differences = []
        for name, slot in self._slots.items():
            then = _Slot(slot.variable, self._edition, stored.get(name), None).text
            if then != slot.text:
                differences.append(Difference(name, slot.text, then))
        return differences

    async def apply_import(self, differences: Sequence[Difference], by: Origin, note: str = "") -> list[Change]:
        """Make all the changes or none, as one batch.

        Raises:
            UsageError: a variable has changed since the differences were shown, or does not take its value.
            StoreError: nothing has changed.
        """

        async def plan() -> list[Step]:
            for difference in differences:
                if (text := self.text(difference.name)) not in (difference.now, difference.then):
                    raise StaleValueError(difference.name, text)
            return await self._steps([(each.name, each.then, None) for each in differences])

        return await self._commit(plan, by, note)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have every change told to ``observer`` once it is durable; the function returned ends that.

        It is called on the event loop, before whoever made the change goes on. An exception in it goes to the loop's
        handler, and neither stops the change nor other observers.
        """
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    def _slot(self, name: str) -> _Slot:
        return self._slots.get(name) or self._slots[self.find(name).name]

    async def _steps(self, wishes: Sequence[tuple[str, str | None, int | None]]) -> list[Step]:
        """Return a step for each wish, (name, text or None for the default, change undone), that changes something."""
        steps = []
        for name, text, undoes in wishes:
            slot = self._slot(name)
            variable = slot.variable
            value = variable.parse(slot.default_text if text is None else text)
            new = None if (canonical := variable.format(value)) == slot.default_text else canonical
            if new == slot.stored:
                continue
            if isinstance(variable.kind, InternalNumber) and isinstance(value, int):
                await self._check_user(variable, value)
            steps.append(Step(variable.name, slot.stored, new, undoes))
        return steps

    async def _check_user(self, variable: Variable, number: int) -> None:
        if not await self._ledger.user_exists(number):
            raise UsageError(f"{variable.name}: no user has the internal number {number}")

    def _can_undo(self, change: Change) -> bool:
        """Whether undoing does anything: the variable exists here, and the old value is not there already."""
        slot = self._slots.get(change.name)
        return slot is not None and slot.stored != (None if change.old == slot.default_text else change.old)

    async def _commit(self, plan: Callable[[], Awaitable[list[Step]]], by: Origin, note: str) -> list[Change]:
        """Run ``plan`` and write its steps while no other change can come between."""
        note = note.strip(" ")
        if len(note) > _LONGEST_NOTE or not note.isprintable():
            raise UsageError(f"a note is one line of at most {_LONGEST_NOTE} printable characters")
        await self._lock.acquire()
        writing = self._tasks.begin(self._write(plan, by, note), name="variables: write")
        writing.add_done_callback(lambda _: self._lock.release())  # also where the task never begins
        return await asyncio.shield(writing)

    async def _write(self, plan: Callable[[], Awaitable[list[Step]]], by: Origin, note: str) -> list[Change]:
        steps = await plan()
        if not steps:
            return []
        await self._require_room(steps)
        at = self._now().isoformat(timespec="seconds")
        return await self._ledger.write(steps, at, by, note, self._take_effect)

    async def _require_room(self, steps: Sequence[Step]) -> None:
        """Refuse to store more than a restore takes: also what an earlier ``callisto.toml`` has defined is stored."""
        added = sum((step.new is not None) - (step.old is not None) for step in steps)
        if added > 0 and (stored := await self._ledger.count()) + added > MOST_STORED_VARIABLES:
            raise UsageError(
                f"{stored:,} values of variables are stored, allowed are {MOST_STORED_VARIABLES:,}, with those of"
                " variables that are defined no more; reset others"
            )

    def _take_effect(self, changes: Sequence[Change]) -> None:
        loop = asyncio.get_running_loop()
        for change in changes:
            slot = self._slots[change.name]
            slot.take(change.new)
            slot.last = change
        for change in changes:
            for observer in self._observers:
                loop.call_soon(observer, change)
