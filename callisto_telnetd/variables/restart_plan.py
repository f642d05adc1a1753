"""Restart plans: on which days of the week, and at what time, a process is started again.

A plan is written as the appliance writes it, ``9,02:00``: the sum of the days' values, a comma, the time. It is also
taken with names, ``sun,wed 02:00``. Its times are wall times of the zone in which it is asked for the next run:

- a time that the clock skips in spring runs at the first instant after the gap;
- a time that comes twice in autumn runs once, the first time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Self

from callisto_telnetd.errors import listed

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
"""The day at place ``i`` has the value ``1 << i``, as the appliance's document has it: Sunday 1 … Saturday 64."""

EVERY_DAY = 127
_LONGEST_TEXT = 200  # all seven names in full, with time and spaces, take 66
_SHORTEST_NAME = 3  # "tue" and "thu" differ in their second letter; two letters would be read as a typing error
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_NUMBER = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """Days of the week and a time of day; ``days`` 0 is a plan that never runs."""

    days: int
    """Sum of the days' values, 0 to 127."""
    hour: int
    minute: int

    def __post_init__(self) -> None:
        if not (0 <= self.days <= EVERY_DAY and 0 <= self.hour <= 23 and 0 <= self.minute <= 59):
            raise ValueError(f"no restart plan: {self.days},{self.hour:02}:{self.minute:02}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the plan that ``text`` means: ``9,02:00``, ``sun,wed 2:00``, ``mon-fri 02:00``, ``daily 02:00``.

        Raises:
            ValueError: it means none.
        """
        if len(text) > _LONGEST_TEXT:
            raise ValueError("too long for a restart plan")
        *days, at = text.casefold().replace(" -", "-").replace("- ", "-").replace(",", " ").split() or [""]
        if not days or not (clock := _TIME.fullmatch(at)):
            raise ValueError("no days, or no time of day")
        return cls(_parse_days(days), int(clock[1]), int(clock[2]))

    def format(self) -> str:
        """Return the form that the appliance keeps and :meth:`parse` takes: ``9,02:00``."""
        return f"{self.days},{self.hour:02}:{self.minute:02}"

    def describe(self) -> str:
        """Return the plan in words: ``Sunday and Wednesday at 02:00``."""
        if not self.days:
            return "never: no day is chosen"
        chosen = [day for place, day in enumerate(DAYS) if self.days >> place & 1]
        days = "every day" if self.days == EVERY_DAY else listed(chosen, "and")
        return f"{days} at {self.hour:02}:{self.minute:02}"

    def has(self, day: date) -> bool:
        """Return whether the plan names that day of the week."""
        return bool(self.days >> day.isoweekday() % 7 & 1)

    def instant(self, day: date, zone: tzinfo) -> datetime:
        """Return when the run of a day is, in UTC: the first time that the wall clock shows it, or the end of its gap.

        Raises:
            OverflowError: Python's calendar ends there.
        """
        return _instant(datetime.combine(day, time(self.hour, self.minute)), zone)

    def next_run(self, after: datetime) -> datetime | None:
        """Return the first run later than ``after``, in its zone; None if there is none.

        Raises:
            ValueError: ``after`` has no zone.
        """
        zone = after.tzinfo
        if zone is None:
            raise ValueError("next_run needs a time with a zone")
        runs = []
        for offset in range(-1, 9):  # one day more at each end: a gap may move a run across midnight
            try:
                day = after.date() + timedelta(days=offset)
                if self.has(day):
                    runs.append(self.instant(day, zone))
            except OverflowError:  # the first and the last day that Python counts
                continue
        # The runs are in UTC: within one other zone Python would compare wall times, and an hour that comes twice lies.
        first = min((run for run in runs if run > after), default=None)
        return first.astimezone(zone) if first else None


def _parse_days(words: list[str]) -> int:
    if len(words) == 1 and _NUMBER.fullmatch(words[0]):
        return int(words[0])
    days = 0
    for word in words:
        first, dash, last = word.partition("-")
        if word == "daily":
            days |= EVERY_DAY
        elif not dash:
            days |= 1 << _parse_day(word)
        else:
            begin, end = _parse_day(first), _parse_day(last)
            for step in range((end - begin) % 7 + 1):  # "fri-mon" goes across the week's end
                days |= 1 << (begin + step) % 7
    return days


def _parse_day(word: str) -> int:
    """Return the place in :data:`DAYS` of a day's name or its beginning."""
    for place, day in enumerate(DAYS):
        if len(word) >= _SHORTEST_NAME and day.lower().startswith(word):
            return place
    raise ValueError("no day of the week")


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return the instant, in UTC, of a wall time: its first occurrence, or the end of the gap that skips it."""
    after_gap = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)  # PEP 495: fold 0 counts by the offset before
    if after_gap.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return after_gap
    before_gap = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    offset_before = before_gap.astimezone(zone).utcoffset()
    while after_gap - before_gap > timedelta(seconds=1):  # a zone does not tell when it changes: halve to the second
        middle = before_gap + timedelta(seconds=(after_gap - before_gap) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == offset_before:
            before_gap = middle
        else:
            after_gap = middle
    return after_gap
