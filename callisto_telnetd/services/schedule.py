"""The schedule's calendar: all jobs with their diaries, what is due, and what a jump of the clock would do.

Pure: it knows no loop, no clock and no database. ``services/diary.py`` has the rules; ``services/scheduler.py`` runs
what is due. The kept form is JSON; one that is not what this module writes is refused whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from callisto_telnetd.clock import format_moment
from callisto_telnetd.errors import CallistoError
from callisto_telnetd.services.diary import REACH_DAYS, YEARS, Diary, Run
from callisto_telnetd.variables.restart_plan import RestartPlan

__all__ = ["MOST_EFFECTS", "Calendar", "Effect", "Moved", "Outcome", "Run", "ScheduleError"]

MOST_STATE = 200_000
"""Characters of the kept form, as many as the database's state takes. Two hundred jobs of any plan need less: days that
follow each other by a day or by a week are one span (:func:`_spans`). Should they be more all the same, the days that
are farthest from now are left out."""
_NEARER_DAYS = (180, 60, 30, 14)
"""How far from now days are kept where all of them find no room."""
_MOST_JOBS = 200
MOST_EFFECTS = 20
"""Effects of a jump that are kept."""
_MOST_TEXT = 300
_MOST_DAYS = 3 * REACH_DAYS
_WEEK = 7
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = date(YEARS[0], 1, 1).toordinal(), date(YEARS[-1], 12, 31).toordinal()
_LEAST_S, _MOST_S = -(2**31), 2**34
"""1901 to 2514: more than a system clock can show and less than what Python's calendar takes."""


class ScheduleError(CallistoError):
    """The schedule's kept state is not what this program writes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job's last run."""

    planned: str
    """When it was planned, ISO 8601 with its offset."""
    begun: str
    """When it was begun."""
    text: str
    """What came of it; ``running`` until it has ended."""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """What a jump of the clock does to a job."""

    job: str
    kind: Literal["passed over", "comes again", "runs again"]
    first: datetime
    last: datetime
    count: int

    def told(self, *, done: bool = False, serving: bool = True) -> str:
        """Return the effect in a sentence: beforehand, or once the jump is done; ``serving`` is whether jobs run."""
        many = self.count > 1
        if self.kind == "passed over":
            verb = ("were" if many else "was") if done else "would be"
            when = "at once" if serving else "when the server starts"
            return f"{self._what()} {verb} passed over: it runs once{' for all' if many else ''}, {when}"
        again = "come again: they" if many else "comes again: it"
        if self.kind == "comes again":
            return f"{self._what()} {again} {'do' if many else 'does'} not run a second time"
        return f"{self._what()} {again} run{'' if many else 's'} again, because the clock goes back by over a year"

    def _what(self) -> str:
        first, last = (format_moment(each)[:-3] for each in (self.first, self.last))
        if self.count == 1:
            return f"{self.job} of {first}"
        if self.count == 2:
            return f"{self.job} of {first} and of {last}"
        return f"{self.job} of {first}, of {last} and {self.count - 2} between"


@dataclass(frozen=True, slots=True)
class Moved:
    """A jump of the clock, and what it did."""

    before: str
    """What the clock would have shown, ISO 8601 with its offset."""
    after: str
    effects: tuple[str, ...]


class Calendar:
    """The jobs by name, in the order in which they were given."""

    def __init__(self) -> None:
        self._diaries: dict[str, Diary] = {}
        self.outcomes: dict[str, Outcome] = {}
        """The last run of each job that ever ran."""
        self.moved: Moved | None = None
        """The last jump of the clock that was seen."""
        self.changed = False
        """Whether there is something that is not kept yet; whoever keeps it says False."""

    @property
    def names(self) -> tuple[str, ...]:
        """The jobs."""
        return tuple(self._diaries)

    def follow(self, plans: Mapping[str, RestartPlan | None], now: datetime) -> None:
        """Take the jobs and plans of now: what is new owes nothing from before, a job that is missing is dropped."""
        known, self._diaries = self._diaries, {}
        for name, plan in plans.items():
            diary = known.pop(name, None)
            if diary is None:
                diary = Diary.begin(plan, now)
                self.changed = True
            elif diary.plan != plan:
                diary.change(plan, now)
                self.changed = True
            self._diaries[name] = diary
        for name in known:
            self.outcomes.pop(name, None)
            self.changed = True

    def set_plan(self, name: str, plan: RestartPlan | None, now: datetime) -> None:
        """Give one job another plan."""
        self.follow({**{each: diary.plan for each, diary in self._diaries.items()}, name: plan}, now)

    def due(self, now: datetime, busy: Collection[str] = ()) -> list[Run]:
        """Return what is due, noted as begun; a job that is busy keeps its turn until it is not."""
        runs = []
        for name, diary in self._diaries.items():
            before = diary.seen_s, diary.zone
            if name in busy:
                diary.look(now)
            elif run := diary.take(name, now):
                runs.append(run)
                self.changed = True
            # Time that only went on need not be kept: nothing was due in it.
            self.changed |= diary.seen_s < before[0] or diary.zone != before[1]
        return runs

    def next_at(self, now: datetime) -> datetime | None:
        """Return when anything is due next."""
        times = [at for name in self._diaries if (at := self.next_of(name, now)) is not None]
        return min(times, key=datetime.timestamp, default=None)

    def next_of(self, name: str, now: datetime) -> datetime | None:
        """Return when a job runs next: ``now`` where it owes a run, None where it never will."""
        return self._diaries[name].next_at(now)

    def plan_of(self, name: str) -> RestartPlan | None:
        """Return a job's plan."""
        return self._diaries[name].plan

    def preview(self, before: datetime, after: datetime) -> list[Effect]:
        """Return what would come of a clock that goes from ``before`` to ``after``, in their zones."""
        effects: list[Effect] = []
        for name, diary in self._diaries.items():
            copy = diary.copy()
            copy.take(name, before)  # what is due already is no effect of the jump
            if passed := copy.passed_over(after):
                effects.append(Effect(name, "passed over", *passed))
            again, forgotten = copy.come_again(before, after)
            if again:
                kind: Literal["runs again", "comes again"] = "runs again" if forgotten else "comes again"
                effects.append(Effect(name, kind, again[0], again[-1], len(again)))
        return effects

    def to_json(self) -> str:
        """Return what :meth:`from_json` takes."""
        text = ""
        for days in (None, *_NEARER_DAYS):
            jobs = {name: self._job_data(name, days) for name in self._diaries}
            data: dict[str, Any] = {"version": 1, "jobs": jobs}
            if self.moved is not None:
                data["moved"] = [self.moved.before, self.moved.after, *self.moved.effects]
            text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
            if len(text) <= MOST_STATE:
                break
        return text

    def _job_data(self, name: str, most_days: int | None) -> dict[str, Any]:
        """Return what is kept of a job; of its days, those that are at most so far from the last look."""
        diary, outcome = self._diaries[name], self.outcomes.get(name)
        middle = int(diary.seen_s // 86_400) + _EPOCH_DAY
        by_minute: dict[int, list[int]] = {}
        for day, minute in sorted(diary.ran.items()):
            if most_days is None or abs(day - middle) <= most_days:
                by_minute.setdefault(minute, []).append(day)
        ran = {f"{minute // 60:02}:{minute % 60:02}": _spans(days) for minute, days in by_minute.items()}
        data: dict[str, Any] = {
            "plan": diary.plan.format() if diary.plan else "",
            "seen": diary.seen_s,
            "zone": diary.zone,
            "ahead": diary.ahead_s,
            "ran": ran,
        }
        if outcome is not None:
            data["last"] = [outcome.planned, outcome.begun, outcome.text, outcome.failed]
        return data

    @classmethod
    def from_json(cls, text: str) -> Calendar:
        """Return the calendar that :meth:`to_json` wrote.

        Raises:
            ScheduleError: it is not what this program writes; says what is wrong.
        """
        calendar = cls()
        try:
            kept: Any = json.loads(text) if len(text) <= MOST_STATE else None
            _require(isinstance(kept, dict) and kept.get("version") == 1, "its form is none of this version's")
            jobs = kept.get("jobs")
            _require(isinstance(jobs, dict) and len(jobs) <= _MOST_JOBS, "its jobs are not readable")
            for name, data in jobs.items():
                _require(0 < len(name) <= _MOST_TEXT and name.isprintable(), "the name of a job is none")
                _require(isinstance(data, dict), "a job is not readable")
                calendar._diaries[name] = _diary(data)
                if "last" in data:
                    calendar.outcomes[name] = _outcome(data["last"])
            calendar.moved = _moved(kept["moved"]) if "moved" in kept else None
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            reason = str(error) if isinstance(error, _FormError) else "it is no JSON of ours"
            raise ScheduleError(f"the schedule's kept state is damaged: {reason}") from None
        return calendar


def _spans(days: Sequence[int]) -> list[list[int]]:
    """Return ascending days as spans: first and last day, and the step where that is a week and no day."""
    daily: list[list[int]] = []
    for day in days:
        if daily and daily[-1][1] == day - 1:
            daily[-1][1] = day
        else:
            daily.append([day, day])
    weekly: list[list[int]] = []
    open_spans: dict[int, list[int]] = {}
    for day in days:
        span = open_spans.get(day % _WEEK)
        if span is not None and span[1] == day - _WEEK:
            span[1] = day
        else:
            open_spans[day % _WEEK] = span = [day, day, _WEEK]
            weekly.append(span)
    return min(daily, weekly, key=len)


class _FormError(ValueError):
    """A part of the kept form is wrong; the text is ours."""


def _require(sound: bool, fault: str) -> None:
    if not sound:
        raise _FormError(fault)


def _diary(data: Mapping[str, Any]) -> Diary:
    seen: Any = data.get("seen")
    ahead: Any = data.get("ahead")
    zone: Any = data.get("zone")
    plan: Any = data.get("plan")
    _require(_is_moment(seen) and _is_moment(ahead), "a moment is out of its range")
    _require(isinstance(zone, str) and len(zone) <= _MOST_TEXT and zone.isprintable(), "the name of a zone is none")
    _require(isinstance(plan, str), "a plan is none")
    try:
        parsed = RestartPlan.parse(plan) if plan else None
    except ValueError:
        raise _FormError("a plan is none") from None
    return Diary(parsed, float(seen), zone, float(ahead), _ran(data.get("ran")))


def _ran(data: Any) -> dict[int, int]:
    _require(isinstance(data, dict), "the days that have run are not readable")
    ran: dict[int, int] = {}
    for at, spans in data.items():
        plan = RestartPlan.parse(f"0,{at}")
        for span in spans:
            first, last, step = span if len(span) == 3 else (*span, 1)
            _require(type(first) is int and type(last) is int and step in (1, _WEEK), "a day is none")
            _require(_FIRST_DAY <= first <= last <= _LAST_DAY, "a day is out of the calendar")
            _require(len(ran) + (last - first) // step < _MOST_DAYS, "too many days have run")
            for day in range(first, last + 1, step):
                ran[day] = max(ran.get(day, -1), plan.hour * 60 + plan.minute)
    return ran


def _moved(data: Any) -> Moved:
    _require(isinstance(data, list) and 2 <= len(data) <= 2 + MOST_EFFECTS, "the last jump is not readable")
    for each in data:
        _require(isinstance(each, str) and len(each) <= _MOST_TEXT and each.isprintable(), "the last jump is no text")
    for each in data[:2]:
        _require(datetime.fromisoformat(each).tzinfo is not None, "the last jump has no time")
    return Moved(data[0], data[1], tuple(data[2:]))


def _outcome(data: Any) -> Outcome:
    _require(isinstance(data, list) and len(data) == 4, "a last run is not readable")
    planned, begun, text, failed = data
    for each in (planned, begun, text):
        _require(isinstance(each, str) and len(each) <= _MOST_TEXT and each.isprintable(), "a last run is no text")
    for each in (planned, begun):
        _require(datetime.fromisoformat(each).tzinfo is not None, "a last run has no time")
    _require(isinstance(failed, bool), "a last run is neither failed nor not")
    return Outcome(planned, begun, text, failed)


def _is_moment(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _LEAST_S <= value <= _MOST_S
