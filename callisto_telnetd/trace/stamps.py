"""Senders' stamps of the time: their forms, and whether one is far from now.

A stamp without a zone is taken for this machine's local time, as RFC 3164 4.1.2 has it. A zone that is a word counts
where it is UTC or this machine's own; any other is none that can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAY = f"(?:{'|'.join(MONTHS)}) [ 0-3]?[0-9]"
TIME = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
BSD = f"{DAY} {TIME}"
"""``Nov 23 07:14:43``, RFC 3164 4.1.2."""
ISO = f"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{TIME}"
"""``2026-11-23T07:14:43``, RFC 5424 6.2.3."""
_FAR_S = 5
_MAX_KNOWN = 512
_UTC = {"UTC", "GMT"}


class Stamps:
    """Compares stamps with a second of the system's clock; what it has found out holds until the next one begins."""

    def __init__(self) -> None:
        self._second = 0
        self._far: dict[str, bool] = {}
        self._near: dict[Callable[[float], time.struct_time], frozenset[str]] = {}

    def begin_second(self, second: int) -> None:
        """Compare with this second of the epoch from now on."""
        self._second = second
        self._far.clear()
        self._near.clear()

    def is_far(self, moment: str, zone: str) -> bool:
        """Return whether a stamp up to its second is more than 5 s from now, or no time that can be compared."""
        key = moment + zone
        far = self._far.get(key)
        if far is None:
            if len(self._far) >= _MAX_KNOWN:
                self._far.clear()
            far = self._far[key] = self._find_out(moment, zone)
        return far

    def _find_out(self, moment: str, zone: str) -> bool:
        if zone in _UTC:
            return moment not in self._near_stamps(time.gmtime)
        if not zone or zone in time.tzname:
            return moment not in self._near_stamps(time.localtime)
        try:
            return abs(int(datetime.fromisoformat(moment + zone).timestamp()) - self._second) > _FAR_S
        except ValueError:
            return True

    def _near_stamps(self, as_time: Callable[[float], time.struct_time]) -> frozenset[str]:
        """Return all stamps that are near: those of RFC 3164 have no year, and local hours repeat in autumn."""
        near = self._near.get(as_time)
        if near is None:
            seconds = range(self._second - _FAR_S, self._second + _FAR_S + 1)
            near = self._near[as_time] = frozenset(stamp for second in seconds for stamp in _forms(as_time(second)))
        return near


def _forms(moment: time.struct_time) -> set[str]:
    clock = time.strftime("%H:%M:%S", moment)
    month, day = MONTHS[moment.tm_mon - 1], moment.tm_mday
    bsd = {f"{month} {shown} {clock}" for shown in (f"{day:2}", f"{day:02}", f"{day}")}
    return bsd | {f"{moment.tm_year:04}-{moment.tm_mon:02}-{day:02}T{clock}"}
