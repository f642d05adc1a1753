"""How many rows of a database are doubtful, and what is wrong with them; :mod:`.doubtful_rows` finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from callisto_telnetd.quantities import counted


@dataclass(frozen=True, slots=True)
class Doubtful:
    """The doubtful rows of a database."""

    tables: Mapping[str, int] = field(default_factory=dict)
    """How many there are, by table; tables without any are not named."""
    faults: tuple[str, ...] = ()
    """What is wrong with the first of them, a line each."""

    def __bool__(self) -> bool:
        return bool(self.tables)

    @property
    def count(self) -> int:
        """How many there are in all."""
        return sum(self.tables.values())

    @property
    def text(self) -> str:
        """How many there are, in words: ``3 rows (call_record: 1, user: 2)``."""
        by_table = ", ".join(f"{table}: {count}" for table, count in self.tables.items())
        return f"{counted(self.count, 'row')} ({by_table})"

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_data` wrote."""
        return cls(dict(data["tables"]), tuple(data["faults"]))
