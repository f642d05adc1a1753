"""The form of System Information: sections of rows, for people as ``Key: text`` and for programs as named facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One line of a section."""

    key: str
    text: str
    facts: Mapping[str, Any]
    """The same for programs: numbers as numbers, times in ISO 8601 with zone, None for what is not there."""


@dataclass(frozen=True, slots=True)
class Section:
    """A named part of System Information."""

    title: str
    rows: Sequence[Row]
    items: bool = False
    """Whether its rows are things of one kind, of which programs get a list."""
    name: str = ""
    """The key that programs find it under, where it is not its title's."""

    @property
    def key(self) -> str:
        """The key that programs find it under."""
        return self.name or self.title.lower().replace(" ", "_")

    @property
    def facts(self) -> Any:
        """Its facts: one object, or a list of those of each row."""
        if self.items:
            return [dict(row.facts) for row in self.rows if row.facts]
        return {key: value for row in self.rows for key, value in row.facts.items()}
