"""What a repair did, table by table, as data: kept beside the files that were set aside, and shown to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

REPORT_NAME = "report.json"
REPAIR_STATE = "last_repair"
"""The key under which the last repair's outcome is kept in the database."""

LOST_STATE = "lost_rows"
"""The key under which a repaired database keeps which repair has lost rows of it, and when, until they are filled up.

It is about that very database: a restore does not carry it over into another one.
"""

Outcome = Literal["sound", "backup", "journal", "indexes", "rebuilt", "recovered"]
"""What was done: nothing; a backup put in place; a journal taken care of; indexes made anew; rows saved around damaged
pages; rows taken without a schema."""


@dataclass(slots=True)
class TableReport:
    """What became of one table's rows."""

    table: str
    kept: int = 0
    """Rows in place now; placeholders are not counted."""
    from_damaged: int = 0
    """Those of the kept that stood on damaged pages."""
    lost: int = 0
    """Rows that are known to be gone; there may be more where not ``lost_exact``."""
    lost_exact: bool = True
    lost_most: int | None = None
    """How many can be lost at most, where that can be said and is not exact."""
    quarantined: int = 0
    """Rows that were found and that the table does not take; they stand in ``quarantine``."""
    placeholders: int = 0
    """Rows made anew because others refer to them."""
    cleared: int = 0
    """References taken off because nothing stands behind them."""

    @property
    def may_lack_rows(self) -> bool:
        """Whether rows are lost, or nobody knows that none is."""
        return bool(self.lost) or not self.lost_exact

    @property
    def most_to_fill(self) -> int | None:
        """How many rows of a backup can stand for what is lost, placeholders among them; None where nobody knows."""
        most = self.lost if self.lost_exact else self.lost_most
        return None if most is None else most + self.placeholders

    @property
    def lost_text(self) -> str:
        """How many are lost, in words that are true."""
        return _in_words(self.lost, self.lost if self.lost_exact else self.lost_most) or "unknown"


@dataclass(slots=True)
class RepairReport:
    """What a repair found and did."""

    outcome: Outcome
    faults: list[str] = field(default_factory=list)
    """What the check said, at most twenty."""
    tables: list[TableReport] = field(default_factory=list)
    bad_pages: list[int] = field(default_factory=list)
    """Pages that cannot be trusted, at most a thousand."""
    bad_page_count: int = 0
    pages: int = 0
    journal: str = ""
    """What was done about a rollback journal; blank where there was none to judge."""
    aside: str = ""
    """The folder with the damaged files; blank where nothing was changed."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> int:
        """Rows in place now."""
        return sum(table.kept for table in self.tables)

    @property
    def quarantined(self) -> int:
        """Rows that were set apart."""
        return sum(table.quarantined for table in self.tables)

    @property
    def lost_tables(self) -> list[str]:
        """The tables of which rows are lost, or have placeholders."""
        return [each.table for each in self.tables if each.may_lack_rows or each.placeholders]

    @property
    def lost_text(self) -> str:
        """How many rows are lost in all, in words that are true."""
        lost, most = 0, 0
        for table in self.tables:
            lost += table.lost
            if not table.lost_exact and table.lost_most is None:
                return _in_words(sum(each.lost for each in self.tables), None) or "an unknown number"
            most += table.lost if table.lost_exact else table.lost_most or 0
        return _in_words(lost, most)

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> RepairReport:
        """Return the report that :meth:`as_data` wrote."""
        return cls(**{**data, "tables": [TableReport(**table) for table in data["tables"]]})


def _in_words(least: int, most: int | None) -> str:
    """Return a number of which a lower bound is known, and perhaps an upper one; blank where neither says anything."""
    if most is None:
        return f"at least {least}" if least else ""
    if least == most:
        return str(least)
    return f"{least} to {most}" if least else f"at most {most}"
