"""What a restore would do, as data: told by the worker that has looked, shown to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.quantities import format_bytes


@dataclass(frozen=True, slots=True)
class TableChange:
    """How many rows a table has, and would have."""

    table: str
    now: int | None
    """None where the present database cannot be read."""
    then: int
    added: int | None = None
    """How many are added where all rows of now stay; None where the backup's take their place."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the files say of a restore; whoever asks adds what only the running appliance knows."""

    schema: int
    schema_here: int
    tables: tuple[TableChange, ...]
    variables: Mapping[str, str]
    """What would be stored then, by name."""
    settings: tuple[str, ...] | None
    """The keys of ``callisto.toml`` that would change; None where the file stays as it is. Values may be secrets."""
    recordings: int
    """How many would be added, and how large they are."""
    recordings_bytes: int
    accounts: tuple[str, ...]
    """Those in the backup."""
    needed_bytes: int
    free_bytes: int
    doubtful: Doubtful = field(default_factory=Doubtful)
    """The rows that would be set apart."""
    notes: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """Return it as the worker tells it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_data` wrote."""
        tables = tuple(TableChange(**each) for each in data["tables"])
        settings = None if data["settings"] is None else tuple(data["settings"])
        lists = {key: tuple(data[key]) for key in ("accounts", "notes")}
        doubtful = Doubtful.from_data(data["doubtful"])
        return cls(**{**data, **lists, "tables": tables, "settings": settings, "doubtful": doubtful})


def no_room_text(needed: int, free: int) -> str:
    """Return what is said where there is too little room."""
    return f"no room for a restore: {format_bytes(free)} free, {format_bytes(needed)} needed; nothing was changed"
