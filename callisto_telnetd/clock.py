"""The appliance's clock: what time it is, in which zone, and where that time comes from.

Rules:

* Everything that is shown, stamped or scheduled reads this clock; every timeout reads a monotonic one instead.
* In mode ``offset`` the system's clock is never touched: the appliance's time is the system's plus an offset. In mode
  ``system`` the offset is always 0, and setting the time sets the system's clock.
* A clock that is set by hand is no longer synchronised; :meth:`Clock.note_sync` says so again after a synchronisation.
* The clock keeps nothing itself: its owner stores :meth:`Clock.state` and gives it back to :meth:`Clock.restore`.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from callisto_telnetd.errors import ClockError, UsageError, quoted
from callisto_telnetd.work import Lately

_YEARS = range(2000, 2100)
_MAX_OFFSET_S = 2**32
"""136 years: from a system clock that starts at 1970 to the last year that the appliance knows."""
_MAX_SYNC_S = 2**33
"""Seconds since the epoch up to the year 2242: later than any time that the clock can have noted."""
_MAX_SERVER_LENGTH = 261
"""A host name of 253 characters, brackets, colon and port."""
_MAX_STATE_LENGTH = 1024
_MAX_ZONE_LENGTH = 64
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_UNUSABLE_ZONES = ("right/", "posix/", "posixrules", "localtime")
"""Files beside the zones: counted with leap seconds, doubles, and links whose meaning may change."""
_MOMENT = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?: +|T)(\d{2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{2}:\d{2}(?::\d{2})?", re.ASCII)


class ClockValueError(ClockError, UsageError):
    """A date, a time or a zone that the clock does not take; nothing has changed."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """What outlives a restart; every value is checked, so one that exists can be restored.

    Raises:
        ClockError: a value has the wrong type, or is out of its range.
    """

    zone: str = ""
    """The zone's name; blank where none was chosen."""
    offset_s: float = 0.0
    """Seconds by which the appliance's clock is ahead of the system's; at most 2**32 either way."""
    synced_with: str | None = None
    """The time server of the last synchronisation, unless the clock was set by hand since."""
    synced_at: float | None = None
    """When that was: seconds since the epoch on the appliance's clock."""

    def __post_init__(self) -> None:
        sound = (
            (self.zone == "" or _is_zone_name(self.zone))
            and _is_number(self.offset_s, _MAX_OFFSET_S)
            and (self.synced_with is None) == (self.synced_at is None)
            and (self.synced_with is None or _is_server(self.synced_with))
            and (self.synced_at is None or _is_number(self.synced_at, _MAX_SYNC_S))
        )
        if not sound:
            raise ClockError("the clock's stored state is damaged: a value is missing or out of its range")

    def to_json(self) -> str:
        """Return the state as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ClockState:
        """Return the state that :meth:`to_json` wrote.

        Raises:
            ClockError: the text is damaged, or a value is out of its range.
        """
        try:
            return cls(**json.loads(text if len(text) <= _MAX_STATE_LENGTH else ""))
        except (ValueError, TypeError, RecursionError) as error:
            raise ClockError("the clock's stored state is damaged: it is not what this program writes") from error


class Clock:
    """The appliance's time, in its zone."""

    def __init__(
        self,
        mode: Literal["offset", "system"] = "offset",
        zone: str = "",
        offset_s: float = 0.0,
        *,
        read: Callable[[], float] = time.time,
        write: Callable[[float], None] | None = None,
    ) -> None:
        """Start a clock that was never synchronised.

        Args:
            mode: what setting the time changes: an own offset, or the system's clock.
            zone: a zone's name; blank takes the system's.
            offset_s: seconds ahead of the system's clock; ignored in mode ``system``.
            read: reads the system's clock, seconds since the epoch.
            write: sets the system's clock; used in mode ``system`` only.

        Raises:
            ClockError: the zone is unknown, or the offset is out of its range.
        """
        self.mode = mode
        self._read = read
        self._write = write or _set_system_clock
        self._chosen_zone = ""
        self._zone = self._system_zone = _load_zone(system_zone_name()) or UTC
        self._offset_s = 0.0
        self._synced_with: str | None = None
        self._synced_at: float | None = None
        self._observers: list[Callable[[], None]] = []
        self.recent_zones: Lately[Sequence[str]] = Lately(_zones, ())
        """The names of all zones, for Tab; none before they were read for the first time."""
        self.restore(ClockState(zone=zone, offset_s=offset_s))

    def time(self) -> float:
        """Return seconds since the epoch; called once a trace record, so it does nothing else."""
        return self._read() + self._offset_s

    def now(self) -> datetime:
        """Return the appliance's time, in its zone."""
        return self.local(self.time())

    def local(self, epoch_s: float) -> datetime:
        """Return a time of :meth:`time` in the appliance's zone.

        Raises:
            ClockError: the calendar has no such time.
        """
        try:
            return datetime.fromtimestamp(epoch_s, self._zone)
        except (ValueError, OverflowError, OSError) as error:
            raise ClockValueError(_range_text()) from error

    def observe(self, observer: Callable[[], None]) -> None:
        """Have ``observer`` called whenever this clock was set or has got another zone.

        What sets the system's clock beside this program is told to nobody: look at the clock now and then.
        """
        self._observers.append(observer)

    @property
    def zone(self) -> tzinfo:
        """The zone in use; another object where another is chosen."""
        return self._zone

    @property
    def zone_name(self) -> str:
        """The name of the zone in use."""
        return getattr(self._zone, "key", "UTC")

    @property
    def offset_s(self) -> float:
        """Seconds ahead of the system's clock; 0 in mode ``system``."""
        return self._offset_s

    @property
    def source(self) -> str:
        """Where the time comes from, in one phrase."""
        if self._synced_with is not None and self._synced_at is not None:
            return f"{self._synced_with}, synchronised {format_moment(self.local(self._synced_at))}"
        if abs(self._offset_s) < 0.0005:
            return "system clock"
        return f"own offset of {self._offset_s:+.3f} s to the system clock"

    def state(self) -> ClockState:
        """Return what the owner stores."""
        return ClockState(self._chosen_zone, self._offset_s, self._synced_with, self._synced_at)

    def restore(self, state: ClockState) -> None:
        """Take a stored state over; a blank zone keeps the one in use, mode ``system`` ignores the offset.

        Raises:
            ClockError: the zone is unknown to this system; nothing has changed.
        """
        if state.zone:
            self.use_zone(state.zone)
        self._offset_s = state.offset_s if self.mode == "offset" else 0.0
        self._synced_with, self._synced_at = state.synced_with, state.synced_at
        self._tell()

    def put_back(self, state: ClockState) -> None:
        """Be again as :meth:`state` has told it: a blank zone is the system's, whatever was chosen since."""
        self.restore(state)
        if not state.zone:
            self._zone, self._chosen_zone = self._system_zone, ""
            self._tell()

    def move_to(self, moment: datetime) -> None:
        """Set the clock to an aware moment, years 2000 to 2099.

        Raises:
            ClockError: the year is out of range, or the system's clock may not be set; nothing has changed.
        """
        if moment.tzinfo is None:
            raise ValueError("a moment without a zone")
        self._set(moment.timestamp())

    def move_by(self, seconds: float) -> None:
        """Set the clock forward, or back where negative.

        After a measurement of a time server, which is against the system's clock, the way to go is
        ``measurement.offset_s - clock.offset_s``; follow it with :meth:`note_sync`.

        Raises:
            ClockError: as for :meth:`move_to`.
        """
        self._set(self.time() + seconds)

    def note_sync(self, server: str) -> None:
        """Note that the clock now follows ``server``.

        Raises:
            ClockError: no server has such a name.
        """
        if not _is_server(server):
            raise ClockValueError(f"{quoted(server)} is not the name of a time server")
        self._synced_with, self._synced_at = server, self.time()

    def format_stamp(self, text: str) -> str:
        """Return a moment that was kept as ISO 8601 in the appliance's zone of today; text that is none, as it is."""
        try:
            return format_moment(self.local(datetime.fromisoformat(text).timestamp()))
        except (ValueError, OverflowError, OSError):
            return text

    def in_zone(self, text: str) -> str:
        """Return a stored ISO 8601 time as ISO 8601 in the zone of today; text that is no time is returned as it is."""
        try:
            return self.local(datetime.fromisoformat(text).timestamp()).isoformat()
        except (ValueError, OverflowError, OSError):
            return text

    def use_zone(self, name: str) -> None:
        """Show and read times in another zone; the moment stays the same.

        Raises:
            ClockError: no such zone; the message has a near name where there is one.
        """
        self._zone, self._chosen_zone = _require_zone(name), name
        self._tell()

    def now_in(self, zone: str) -> datetime:
        """Return the appliance's time as another zone would show it.

        Raises:
            ClockError: no such zone; the message has a near name where there is one.
        """
        return datetime.fromtimestamp(self.time(), _require_zone(zone))

    def zones(self) -> tuple[str, ...]:
        """Return the names of all zones, sorted; the first call reads them from disk (about 70 ms)."""
        return _zones()

    def parse_moment(self, text: str) -> datetime:
        """Return the moment that a user typed, in the appliance's zone; of an ambiguous one the first.

        A date alone keeps the time of day that it is now, a time alone the date of today.

        Raises:
            ClockError: no date and time, out of the years 2000 to 2099, or in the hour that the zone skips in spring.
        """
        whole = text.strip()
        if _DATE.fullmatch(whole):
            whole = f"{whole} {self.now():%H:%M:%S}"
        elif _TIME.fullmatch(whole):
            whole = f"{format_moment(self.now())[:10]} {whole}"
        match = _MOMENT.fullmatch(whole)
        if match is None:
            forms = "2026-11-23 10:15:00, 2026-11-23 10:15, 2026-11-23 or 10:15"
            raise ClockValueError(f"{quoted(text)} is not a date and time like {forms}")
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
        if year not in _YEARS:
            raise ClockValueError(_range_text())
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=self._zone)
        except ValueError as error:
            raise ClockValueError(f"{quoted(text)} is not in the calendar, or not from 00:00:00 to 23:59:59") from error
        if format_moment(moment.astimezone(UTC).astimezone(self._zone)) != format_moment(moment):
            there = f"{format_moment(moment)} does not exist in {self.zone_name}"
            raise ClockValueError(f"{there}: clocks are put forward over it; give a time before or after")
        return moment

    def _set(self, epoch_s: float) -> None:
        if self.local(epoch_s).year not in _YEARS:
            raise ClockValueError(_range_text())
        if self.mode == "offset":
            self._offset_s = epoch_s - self._read()
        else:
            self._write(epoch_s)
        self._synced_with = self._synced_at = None
        self._tell()

    def _tell(self) -> None:
        for observer in self._observers:
            observer()


def format_moment(moment: datetime) -> str:
    """Return ``2026-11-23 10:15:00``, in the moment's own zone; :meth:`Clock.parse_moment` reads it."""
    return moment.replace(tzinfo=None).isoformat(" ", "seconds")


def system_zone_name(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> str:
    """Return the zone that the system is set to; ``UTC`` where nothing names one that is known.

    The order is the C library's: TZ, then the link /etc/localtime. Debian's /etc/timezone comes last, because it is
    often left behind in containers where only the link was set.
    """
    names = [environment.get("TZ", "").removeprefix(":")]
    with suppress(OSError):  # absent, or a copy in place of a link: it holds no name
        names.append(str((root / "etc/localtime").readlink()))
    with suppress(OSError, UnicodeDecodeError):
        names.append((root / "etc/timezone").read_text(encoding="ascii").strip())
    known = (name for name in (name.rpartition("zoneinfo/")[2] for name in names) if _load_zone(name))
    return next(known, "UTC")


def _set_system_clock(epoch_s: float) -> None:
    try:
        time.clock_settime(time.CLOCK_REALTIME, epoch_s)
    except PermissionError as error:
        reason = "the system's clock may be set only with the capability CAP_SYS_TIME"
        raise ClockError(f'{reason}; use [clock] mode = "offset" or grant it') from error
    except OSError as error:
        raise ClockError(f"the system's clock cannot be set: {error.strerror}") from error


def _load_zone(name: str) -> tzinfo | None:
    if not _is_zone_name(name):
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # no such file, no zone in it, or a folder
        return UTC if name == "UTC" else None  # a container without any zones still has UTC


def _require_zone(name: str) -> tzinfo:
    zone = _load_zone(name)
    if zone is None:
        raise ClockValueError(f"no time zone named {quoted(name)}{_near_zone(name)}")
    return zone


def _near_zone(name: str) -> str:
    if len(name) > _MAX_ZONE_LENGTH:
        return ""
    wanted = name.strip().replace(" ", "_").lower()
    names = {zone.lower(): zone for zone in _zones()}
    cities = [zone for zone in names if zone.rpartition("/")[2] == wanted]
    near = cities or get_close_matches(wanted, names, n=1)
    return f"; did you mean {names[near[0]]}?" if near else ""


@cache
def _zones() -> tuple[str, ...]:
    return tuple(sorted(name for name in available_timezones() | {"UTC"} if _is_zone_name(name)))


def _is_zone_name(name: object) -> bool:
    """Whether it may be looked for at all: a path of plain words, so no ``..`` and no ``/`` at its start."""
    if not isinstance(name, str) or len(name) > _MAX_ZONE_LENGTH:
        return False
    return _ZONE.fullmatch(name) is not None and not name.startswith(_UNUSABLE_ZONES)


def _is_server(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _MAX_SERVER_LENGTH and name.isprintable()


def _is_number(value: object, limit: float) -> bool:
    """Whether it is a number within the limit either way; NaN, which json reads, compares false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -limit <= value <= limit


def _range_text() -> str:
    return f"the clock takes the years {_YEARS[0]} to {_YEARS[-1]} only"
