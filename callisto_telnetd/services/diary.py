"""One job's diary: on which days it has run, and what it owes now. Pure: it knows no loop and no clock.

Rules:

* A day is a calendar date in the appliance's zone. It has had its run where a run that was planned for that date, at
  that time of day or later, was begun: a day is repeated by no jump back and no change of the zone, but a plan that is
  moved to a later time on the same day runs at that time.
* What is owed are the planned runs between the moment up to which the diary was looked at and now, without those days
  that have had theirs. However many they are, they are made good by one run, which counts for the last of them; those
  before it were passed over, and run when the clock comes by them again.
* Nothing is owed from more than eight days ago: no plan pauses longer than a week.
* A clock that goes back owes nothing; the diary is looked at from there on. Another zone is a jump of the wall clock.
* The memory reaches a year to either side. Where the clock has gone back by more than that, it stood wrong: the days
  ahead are forgotten when the next run is due, so that they keep no job from running.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from callisto_telnetd.variables.restart_plan import RestartPlan

REACH_DAYS = 366
"""How far from today a day is remembered, in days."""
YEARS = range(1970, 2201)
"""What the diary counts; while a clock is out of these years, nothing is due."""
_DAY_S = 86_400
_OWED_S = 8 * _DAY_S
_FARTHEST_DAYS = 2 * REACH_DAYS + 16
"""The next run is looked for so far: a year of days that have had theirs, and some weeks."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is due."""

    job: str
    day: date
    """The date that it counts for."""
    planned: datetime
    """When it was to be, in the appliance's zone."""
    passed_over: int = 0
    """How many more days it makes good."""


def zone_key(zone: tzinfo) -> str:
    """Return the name under which a zone is found again; blank where it has none."""
    return getattr(zone, "key", "UTC" if zone is UTC else "")


@dataclass(slots=True)
class Diary:
    """What is known of one job."""

    plan: RestartPlan | None
    """None never runs."""
    seen_s: float
    """Up to when it was looked at, in seconds since the epoch."""
    zone: str
    """The zone in which it was."""
    ahead_s: float
    """The furthest moment that the clock has shown since days were forgotten last."""
    ran: dict[int, int] = field(default_factory=dict)
    """Days (:meth:`date.toordinal`) that have had their run, each with the latest planned minute of the day."""

    @classmethod
    def begin(cls, plan: RestartPlan | None, now: datetime) -> Diary:
        """Return the diary of a new job: it owes nothing from before."""
        return cls(plan, now.timestamp(), zone_key(_zone(now)), now.timestamp())

    def change(self, plan: RestartPlan | None, now: datetime) -> None:
        """Follow another plan from now on."""
        self.look(now)
        self.plan, self.seen_s = plan, now.timestamp()

    def has_run(self, day: date) -> bool:
        """Return whether the plan's run of that day was begun."""
        plan = self.plan
        return plan is not None and self.ran.get(day.toordinal(), -1) >= _minute(plan)

    def look(self, now: datetime) -> None:
        """Follow another zone and a clock that has gone back; what is owed stays owed."""
        zone = zone_key(_zone(now))
        if zone != self.zone:
            self.seen_s, self.zone = self._same_wall(self.seen_s, now), zone
        self.ahead_s = max(self.ahead_s, self.seen_s, now.timestamp())
        self.seen_s = min(self.seen_s, now.timestamp())

    def _same_wall(self, epoch_s: float, now: datetime) -> float:
        try:
            old = UTC if self.zone == "UTC" else ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # a zone that this system does not know any more
            return epoch_s
        return _moved(epoch_s, old, now)

    def take(self, job: str, now: datetime) -> Run | None:
        """Return the run that is due now, noted as begun; None where there is none. ``now`` is the clock's, aware."""
        if now.year not in YEARS:
            return None
        self.look(now)
        if self._stood_wrong(now) and any(True for _ in self._between(self._owed_from_s(now), now)):
            self._forget_ahead(now)
        missed = self._missed(now)
        self.seen_s = now.timestamp()
        if not missed or self.plan is None:
            return None
        day, planned = missed[-1]
        for each, instant in missed:
            if instant == planned:  # a day that the zone has skipped has its run together with the next
                self.ran[each.toordinal()] = max(self.ran.get(each.toordinal(), -1), _minute(self.plan))
        self._prune(day)
        return Run(job, day, planned.astimezone(_zone(now)), len(missed) - 1)

    def next_at(self, now: datetime) -> datetime | None:
        """Return when the next run is due, ``now`` itself where one is owed; None where none will be."""
        plan, zone = self.plan, _zone(now)
        if plan is None or not plan.days or now.year not in YEARS:
            return None
        if self.copy().take("", now):
            return now
        wrong = self._stood_wrong(now)
        first = now.date() - timedelta(days=2)
        for offset in range(_FARTHEST_DAYS):
            day = first + timedelta(days=offset)
            if not plan.has(day) or (self.has_run(day) and not (wrong and day >= now.date())):
                continue
            instant = plan.instant(day, zone)
            if instant.timestamp() > now.timestamp():
                return instant.astimezone(zone)
        return None

    def passed_over(self, after: datetime) -> tuple[datetime, datetime, int] | None:
        """Return the first and the last run that ``after`` would find missed, and how many there are; None for none."""
        if after.year not in YEARS or self.plan is None:
            return None
        return self.copy().owed(after)

    def come_again(self, before: datetime, after: datetime) -> tuple[list[datetime], bool]:
        """Return the runs that were made and whose time comes again, and whether they are forgotten and run again."""
        plan, zone = self.plan, _zone(after)
        if plan is None or after.year not in YEARS:
            return [], False
        top_s = before.timestamp()
        if zone_key(_zone(before)) != zone_key(zone):
            top_s = _moved(top_s, _zone(before), after)
        days = [day for day in map(date.fromordinal, sorted(self.ran)) if plan.has(day) and self.has_run(day)]
        instants = [plan.instant(day, zone) for day in days]
        again = [each.astimezone(zone) for each in instants if after.timestamp() < each.timestamp() <= top_s]
        return again, max(self.ahead_s, top_s) - after.timestamp() > REACH_DAYS * _DAY_S

    def owed(self, now: datetime) -> tuple[datetime, datetime, int] | None:
        """Look, and return the first and the last run that is owed now, and how many there are; None for none."""
        self.look(now)
        if self._stood_wrong(now):
            self._forget_ahead(now)
        recent = self._missed(now)
        if not recent or self.plan is None:
            return None
        first = next(each for each in self._between(self.seen_s, now) if not self.has_run(each[0]))
        days = range(first[0].toordinal(), recent[-1][0].toordinal() + 1)
        count = sum(self.plan.has(day) and not self.has_run(day) for day in map(date.fromordinal, days))
        return first[1].astimezone(_zone(now)), recent[-1][1].astimezone(_zone(now)), count

    def copy(self) -> Diary:
        """Return a diary of the same content that may be tried out."""
        return Diary(self.plan, self.seen_s, self.zone, self.ahead_s, dict(self.ran))

    def _missed(self, now: datetime) -> list[tuple[date, datetime]]:
        return [each for each in self._between(self._owed_from_s(now), now) if not self.has_run(each[0])]

    def _owed_from_s(self, now: datetime) -> float:
        return max(self.seen_s, now.timestamp() - _OWED_S)

    def _between(self, start_s: float, end: datetime) -> Iterator[tuple[date, datetime]]:
        """Yield the plan's days, with their instants, after ``start_s`` up to ``end``, in its zone."""
        plan, zone, end_s = self.plan, _zone(end), end.timestamp()
        if plan is None or not plan.days:
            return
        start = datetime.fromtimestamp(max(start_s, 2 * _DAY_S), UTC).date()
        for ordinal in range(start.toordinal() - 2, end.date().toordinal() + 2):
            day = date.fromordinal(ordinal)
            if plan.has(day):
                instant = plan.instant(day, zone)
                if start_s < instant.timestamp() <= end_s:
                    yield day, instant

    def _stood_wrong(self, now: datetime) -> bool:
        return self.ahead_s - now.timestamp() > REACH_DAYS * _DAY_S

    def _forget_ahead(self, now: datetime) -> None:
        today = now.date().toordinal()
        self.ran = {day: minute for day, minute in self.ran.items() if day < today}
        self.ahead_s = now.timestamp()

    def _prune(self, today: date) -> None:
        if len(self.ran) > REACH_DAYS:
            middle = today.toordinal()
            self.ran = {day: minute for day, minute in self.ran.items() if abs(day - middle) <= REACH_DAYS}


def _zone(moment: datetime) -> tzinfo:
    if moment.tzinfo is None:
        raise ValueError("the diary needs a time with a zone")
    return moment.tzinfo


def _moved(epoch_s: float, old: tzinfo, now: datetime) -> float:
    """Return when the zone of ``now`` shows the wall time that the old one showed at a moment."""
    return datetime.fromtimestamp(epoch_s, old).replace(tzinfo=_zone(now), fold=0).timestamp()


def _minute(plan: RestartPlan) -> int:
    return plan.hour * 60 + plan.minute
