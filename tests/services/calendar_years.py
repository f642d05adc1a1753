"""Ten simulated years of a clock that is set, switched off and moved to other zones; and an oracle that knows no code.

The oracle's idea of a run is simple and its own: a plan's run of a date is the first moment at which the wall clock has
come to that date and time. It finds all of them by walking through the years in quarters of an hour.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from callisto_telnetd.services.schedule import Calendar
from callisto_telnetd.variables import RestartPlan

ZONES = ("Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "UTC")
BEGIN = datetime(2006, 6, 1, tzinfo=UTC)
YEARS = 10
_QUARTER_S = 900
_MARGIN_S = 366 * 86_400
_APIA_SKIPS_S = datetime(2011, 12, 30, 10, tzinfo=UTC).timestamp()
JOB = "restart"
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Leg:
    """The clock runs from ``begin`` for a while, in a zone, with a plan; then it jumps to the next leg's beginning."""

    begin_s: int
    end_s: int
    zone: str
    plan: str
    off: bool
    """Whether the appliance was off before: its calendar is then read back from its kept form."""


@dataclass
class Journal:
    """What ran: the date that counts, and when."""

    runs: list[tuple[date, float]] = field(default_factory=list)
    looks: int = 0


def legs(seed: int, years: int = YEARS) -> Iterator[Leg]:
    """Yield the legs of a life: some thousand hours each, with jumps both ways between them."""
    chance = random.Random(seed)
    zone, plan = chance.choice(ZONES), _plan(chance)
    at_s, lived_s = int(BEGIN.timestamp()) + chance.randrange(86_400), 0
    off = False
    while lived_s < years * 365.25 * 86_400:
        length_s = int(min(chance.expovariate(1 / (12 * 86_400)), 60 * 86_400))
        yield Leg(at_s, at_s + length_s, zone, plan, off)
        at_s += length_s
        lived_s += length_s
        off = False
        match chance.choice(("back", "forward", "hour", "off", "zone", "plan", "years")):
            case "back":
                at_s -= chance.randint(1, 20 * 86_400)
            case "forward":
                at_s += chance.randint(1, 20 * 86_400)
            case "hour":
                at_s += chance.randint(-5400, 5400)
            case "off":
                at_s += chance.randint(60, 15 * 86_400)
                off = True
            case "zone":
                zone = chance.choice(ZONES)
            case "plan":
                plan = _plan(chance)
            case _ if chance.random() < 0.3:  # years ahead by mistake, for an hour, and set right again
                away_s = chance.randint(400, 900) * 86_400
                yield Leg(at_s + away_s, at_s + away_s + 3600, zone, plan, off=False)
                at_s += 3600


def _plan(chance: random.Random) -> str:
    hour, minute = chance.choice(((2, 0), (2, 15), (0, 0), (23, 45), (12, 0)))
    return RestartPlan(chance.choice((127, 127, 9, 1, 62, 32)), hour, minute).format()


def live(life: list[Leg]) -> Journal:
    """Have the calendar under test live the life: looked at when it asks for it, and at least at each leg's ends."""
    journal, calendar = Journal(), Calendar()
    for leg in life:
        zone, plan = ZoneInfo(leg.zone), RestartPlan.parse(leg.plan)
        if leg.off:
            calendar = Calendar.from_json(calendar.to_json())
        now = datetime.fromtimestamp(leg.begin_s, zone)
        calendar.follow({JOB: plan}, now)
        while True:
            journal.runs += [(run.day, now.timestamp()) for run in calendar.due(now)]
            journal.looks += 1
            if now.timestamp() >= leg.end_s:
                break
            due = calendar.next_of(JOB, now)
            now = datetime.fromtimestamp(min(leg.end_s, due.timestamp() if due else leg.end_s), zone)
    return journal


@cache
def occurrences(zone: str, hour: int, minute: int) -> tuple[list[float], list[date]]:
    """Return all moments at which the wall clock first comes to that time of a date, and the dates."""
    place, wanted = ZoneInfo(zone), timedelta(hours=hour, minutes=minute)
    at_s = BEGIN.timestamp() - _MARGIN_S
    end_s = BEGIN.timestamp() + (YEARS + 6) * 366 * 86_400
    day = datetime.fromtimestamp(at_s, place).replace(tzinfo=None, hour=0, minute=0) + timedelta(days=1)
    target = day + wanted
    moments, days = [], []
    while at_s < end_s:
        wall = datetime.fromtimestamp(at_s, place).replace(tzinfo=None, fold=0)
        while wall >= target:
            moments.append(at_s)
            days.append(target.date())
            target += timedelta(days=1)
        # An empty stretch may be passed in a stride, but for what the zone may skip: a whole day in Apia, once.
        skips = timedelta(hours=26 if abs(at_s - _APIA_SKIPS_S) < 3 * 86_400 else 2)
        at_s += _QUARTER_S * max(1, int((target - wall - skips).total_seconds() // _QUARTER_S))
    return moments, days


def expected(life: list[Leg]) -> list[tuple[date, float]]:
    """Return what has to run, by the rules in words, with sets of dates alone."""
    had: dict[date, int] = {}
    runs: list[tuple[date, float]] = []
    before: Leg | None = None
    furthest_s: float = life[0].begin_s
    for leg in life:
        plan = RestartPlan.parse(leg.plan)
        minute = plan.hour * 60 + plan.minute
        wall_s: float = leg.begin_s
        if before is not None and before.plan == leg.plan:
            # where the wall clock stood before the jump, in the zone of now
            stood = datetime.fromtimestamp(before.end_s, ZoneInfo(before.zone)).replace(tzinfo=None)
            wall_s = before.end_s if before.zone == leg.zone else stood.replace(tzinfo=ZoneInfo(leg.zone)).timestamp()
        furthest_s = max(furthest_s, wall_s, leg.begin_s)
        jump = _days(leg, plan, max(min(wall_s, leg.begin_s), leg.begin_s - 8 * 86_400), leg.begin_s)
        if jump:
            furthest_s = _forget(had, furthest_s, leg.begin_s, leg.zone)
        owed = [(at_s, day) for at_s, day in jump if had.get(day, -1) < minute]
        if owed:
            last_s = owed[-1][0]
            runs.append((owed[-1][1], leg.begin_s))
            had |= {day: minute for at_s, day in owed if at_s == last_s}
        for at_s, day in _days(leg, plan, leg.begin_s, leg.end_s):
            furthest_s = _forget(had, furthest_s, at_s, leg.zone)
            if had.get(day, -1) < minute:
                if runs and runs[-1][1] == at_s:  # a date that the zone has skipped runs with the next
                    runs.pop()
                runs.append((day, at_s))
            had[day] = max(minute, had.get(day, -1))
        furthest_s = max(furthest_s, leg.end_s)
        before = leg
    return runs


def _days(leg: Leg, plan: RestartPlan, after_s: float, until_s: float) -> list[tuple[float, date]]:
    moments, days = occurrences(leg.zone, plan.hour, plan.minute)
    span = range(bisect_right(moments, after_s), bisect_right(moments, until_s))
    return [(moments[i], days[i]) for i in span if plan.days >> (days[i].weekday() + 1) % 7 & 1]


def _forget(had: dict[date, int], furthest_s: float, now_s: float, zone: str) -> float:
    """Forget the dates ahead of a clock that has gone back by more than a year."""
    if furthest_s - now_s <= 366 * 86_400:
        return furthest_s
    today = datetime.fromtimestamp(now_s, ZoneInfo(zone)).date()
    for day in [day for day in had if day >= today]:
        del had[day]
    return now_s
