"""What is remembered of the archives, in a form that is never longer than the database keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import orjson

from callisto_telnetd.db.schema import MOST_STATE


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of an archive; ISO 8601, blank where it was never so."""

    made: str = ""
    verified: str = ""
    version: str = ""
    note: str = ""
    target: str = ""
    """Where a copy of it was delivered."""
    schedule: str = ""
    """Which schedule has made it."""
    doubtful: str = ""
    """How many of its rows a restore sets apart; blank where there are none."""


@dataclass(frozen=True, slots=True)
class LastGood:
    """The last archive that was made and verified here."""

    file: str
    at: str
    """ISO 8601, of the appliance's clock."""
    version: str

    def age_s(self, now: datetime) -> float:
        """Return how old it is, in seconds; not below 0."""
        return max(0.0, (now - datetime.fromisoformat(self.at)).total_seconds())


def format_state(known: Mapping[str, Known], last: LastGood | None) -> str:
    """Return what :func:`parse_state` takes; of archives that find no room, the last of ``known`` are left out."""
    kept: dict[str, object] = {}
    text = _packed(kept, last)
    room = MOST_STATE - len(text)
    for name, each in known.items():
        entry = len(_packed({name: asdict(each)}, None)) - len(_packed({}, None)) + 1  # the comma
        if (room := room - entry) < 0:
            break
        kept[name] = asdict(each)
    return _packed(kept, last)


def _packed(known: Mapping[str, object], last: LastGood | None) -> str:
    return orjson.dumps({"known": known, "last": asdict(last) if last else None}).decode()


def parse_state(text: str) -> tuple[dict[str, Known], LastGood | None]:
    """Return what is remembered of the archives, by their names, and the last good one.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is not what :func:`format_state` writes.
    """
    data = orjson.loads(text) if len(text) <= MOST_STATE else None
    if not isinstance(data, dict):
        raise ValueError("no state of backups")
    known = {
        str(name): Known(**{key: _line(value) for key, value in each.items()}) for name, each in data["known"].items()
    }
    if not all(each.doubtful.isdecimal() or not each.doubtful for each in known.values()):
        raise ValueError("no number")
    last = LastGood(**{key: _line(value) for key, value in data["last"].items()}) if data["last"] else None
    if last is not None and datetime.fromisoformat(last.at).tzinfo is None:
        raise ValueError("no moment")
    return known, last


def _line(value: object) -> str:
    if not isinstance(value, str) or not (value.isprintable() or not value):
        raise ValueError("no line")
    return value
