"""The schedule's calendar: what is due, what a jump would do, and what is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callisto_telnetd.db import schema
from callisto_telnetd.services.schedule import MOST_STATE, Calendar, Moved, Outcome, ScheduleError
from callisto_telnetd.variables import RestartPlan

ZURICH, NEW_YORK = ZoneInfo("Europe/Zurich"), ZoneInfo("America/New_York")
WEB = "web-server restart"
DAILY = RestartPlan(127, 2, 0)


def at(text: str, zone: ZoneInfo = ZURICH) -> datetime:
    """Return a time of November 2026 as ``23 10:15``, or a whole one."""
    return datetime.fromisoformat(text if len(text) > 8 else f"2026-11-{text}").replace(tzinfo=zone)


def calendar_of(plan: RestartPlan | None, begin: str = "23 10:00") -> Calendar:
    """Return a calendar with one job, begun at that time."""
    calendar = Calendar()
    calendar.follow({WEB: plan}, at(begin))
    return calendar


def days(calendar: Calendar, *moments: str) -> list[str]:
    """Look at each moment, and return ``moment: date`` for what is due."""
    return [f"{moment}: {run.day.day}" for moment in moments for run in calendar.due(at(moment))]


def test_a_new_plan_owes_nothing_from_before() -> None:
    """What the plan would have run earlier today is not made good; tomorrow it runs."""
    assert days(calendar_of(DAILY), "23 10:00", "24 01:59", "24 02:00", "24 02:01") == ["24 02:00: 24"]


def test_a_jump_forward_runs_once_at_once() -> None:
    """However many days were skipped, one run makes them good; the next day runs as planned."""
    calendar = calendar_of(DAILY)
    (run,) = calendar.due(at("27 10:00"))

    assert (run.day.day, run.passed_over, run.planned) == (27, 3, at("27 02:00"))
    assert days(calendar, "27 10:01", "28 02:00") == ["28 02:00: 28"]


def test_a_jump_back_repeats_no_day() -> None:
    """A date that had its run has none again; one that was only passed over has its own when the clock comes by."""
    calendar = calendar_of(DAILY)
    assert days(calendar, "24 02:00", "26 12:00", "23 12:00") == ["24 02:00: 24", "26 12:00: 26"]

    assert days(calendar, "24 02:00", "25 02:00", "26 02:00", "27 02:00") == ["25 02:00: 25", "27 02:00: 27"]


def test_a_clock_years_ahead_by_mistake_keeps_nothing_from_running() -> None:
    """Set right again, the jobs run on every day; so do they where the clock stood wrong for two whole years."""
    calendar = calendar_of(DAILY)
    assert len(calendar.due(at("2036-05-05 10:00"))) == 1
    assert days(calendar, "23 11:00", "24 02:00", "25 02:00") == ["24 02:00: 24", "25 02:00: 25"]

    moment = at("25 02:00")
    for day in range(1, 732):
        assert len(calendar.due(moment + timedelta(days=day))) == 1
    assert calendar.due(at("26 01:00")) == []
    assert [len(calendar.due(moment + timedelta(days=day))) for day in range(1, 400)] == [1] * 399


@pytest.mark.parametrize(
    ("plan", "before", "after", "runs"),
    [
        ("1,02:30", "2026-03-29 01:59", "2026-03-29 03:00", 1),  # spring: at the first moment after the gap
        ("1,02:30", "2026-10-25 02:29", "2026-10-25 02:30", 1),  # autumn: the first time
    ],
)
def test_daylight_saving(plan: str, before: str, after: str, runs: int) -> None:
    """A time that is skipped runs after the gap, one that comes twice runs the first time and not the second."""
    calendar = Calendar()
    calendar.follow({WEB: RestartPlan.parse(plan)}, at(before))
    assert calendar.due(at(before)) == []
    assert len(calendar.due(at(after))) == runs

    assert calendar.due(at(after).replace(fold=1) + timedelta(minutes=59)) == []


def test_a_zone_is_a_jump_of_the_wall_clock() -> None:
    """East over a planned time runs it at once; west over one that has run repeats nothing."""
    calendar = calendar_of(DAILY)
    assert len(calendar.due(at("24 02:00"))) == 1
    moment = at("24 04:00")
    assert calendar.due(moment.astimezone(NEW_YORK)) == []
    assert calendar.due(moment.astimezone(NEW_YORK) + timedelta(hours=6)) == []  # the 24th comes again

    calendar = Calendar()
    calendar.follow({WEB: DAILY}, moment.astimezone(NEW_YORK))
    (run,) = calendar.due(moment)
    assert run.day.day == 24


def test_a_plan_moved_to_later_on_the_same_day_runs_then() -> None:
    """After today's run, a later time of today runs too; an earlier one, or the same again, does not."""
    calendar = calendar_of(DAILY)
    assert days(calendar, "24 02:00") == ["24 02:00: 24"]
    calendar.set_plan(WEB, RestartPlan(127, 15, 0), at("24 10:00"))
    assert days(calendar, "24 14:59", "24 15:00") == ["24 15:00: 24"]
    calendar.set_plan(WEB, DAILY, at("24 16:00"))

    assert days(calendar, "24 01:00", "24 02:00", "24 15:00", "25 02:00") == ["25 02:00: 25"]


def test_a_busy_job_keeps_its_turn() -> None:
    """What is due while the job still runs is due once when it does not any more."""
    calendar = calendar_of(DAILY)
    assert calendar.due(at("24 02:00"), busy={WEB}) == []
    assert calendar.due(at("25 02:00"), busy={WEB}) == []

    assert days(calendar, "25 02:10", "25 02:11") == ["25 02:10: 25"]


def test_a_missed_run_is_made_good_at_the_start() -> None:
    """A calendar that is read back owes what it missed, once; a job that is new to it owes nothing."""
    calendar = calendar_of(DAILY)
    days(calendar, "24 02:00")
    again = Calendar.from_json(calendar.to_json())
    again.follow({WEB: DAILY, "other": DAILY}, at("27 10:00"))

    assert [(run.job, run.day.day) for run in again.due(at("27 10:00"))] == [(WEB, 27)]
    assert Calendar.from_json(again.to_json()).due(at("27 10:00")) == []


def test_next_at_is_when_due_says_so() -> None:
    """The next run is a day that has not had its run; it is now where one is owed, and never without days."""
    calendar = calendar_of(DAILY)
    days(calendar, "24 02:00", "25 02:00", "23 12:00")

    assert calendar.next_at(at("23 12:00")) == at("26 02:00")
    assert calendar.next_at(at("28 12:00")) == at("28 12:00")
    for never in (None, RestartPlan(0, 2, 0)):
        assert calendar_of(never).next_at(at("23 12:00")) is None


def test_a_jump_is_told_beforehand() -> None:
    """What a jump would pass over or repeat is said in a sentence each; nothing is changed by asking."""
    calendar = calendar_of(DAILY)
    days(calendar, "24 02:00", "25 02:00")
    kept = calendar.to_json()
    many = f"{WEB} of 2026-11-26 02:00, of 2028-11-26 02:00 and 730 between"
    two = f"{WEB} of 2026-11-24 02:00 and of 2026-11-25 02:00"

    def told(before: str, after: str) -> list[str]:
        return [effect.told() for effect in calendar.preview(at(before), at(after))]

    assert told("25 10:00", "25 23:00") == []
    assert told("25 10:00", "26 10:00") == [
        "web-server restart of 2026-11-26 02:00 would be passed over: it runs once, at once"
    ]
    assert told("25 10:00", "2028-11-26 10:00") == [f"{many} would be passed over: it runs once for all, at once"]
    assert told("25 10:00", "24 10:00") == [
        "web-server restart of 2026-11-25 02:00 comes again: it does not run a second time"
    ]
    assert told("25 10:00", "23 10:00") == [f"{two} come again: they do not run a second time"]
    assert told("25 10:00", "2024-11-23 10:00") == [
        f"{two} come again: they run again, because the clock goes back by over a year"
    ]
    assert calendar.to_json() == kept


def test_a_zone_is_told_beforehand() -> None:
    """Another zone is told of like a jump."""
    calendar = calendar_of(DAILY)
    days(calendar, "24 02:00")
    moment = at("24 03:00")

    assert [effect.told() for effect in calendar.preview(moment, moment.astimezone(NEW_YORK))] == [
        "web-server restart of 2026-11-24 02:00 comes again: it does not run a second time"
    ]


def test_everything_is_kept() -> None:
    """A calendar that is read back is the same, outcomes and the last jump included."""
    calendar = calendar_of(DAILY)
    days(calendar, "24 02:00", "25 02:00", "27 02:00")
    calendar.outcomes[WEB] = Outcome("2026-11-27T02:00:00+01:00", "2026-11-27T02:00:00+01:00", "restarted")
    calendar.moved = Moved("2026-11-27T02:00:00+01:00", "2026-11-27T03:00:00+01:00", ("nothing",))
    again = Calendar.from_json(calendar.to_json())

    assert (again.to_json(), again.outcomes, again.moved) == (calendar.to_json(), calendar.outcomes, calendar.moved)


@settings(max_examples=40)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_a_damaged_state_is_refused(value: object) -> None:
    """Whatever stands in the place of a part, the state is taken whole or refused with a reason."""
    calendar = calendar_of(DAILY)
    days(calendar, "24 02:00")
    sound = json.loads(calendar.to_json())
    for path in (("jobs",), ("jobs", WEB), *(("jobs", WEB, key) for key in ("plan", "seen", "zone", "ahead", "ran"))):
        damaged = json.loads(json.dumps(sound))
        place = damaged
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        try:
            taken = Calendar.from_json(json.dumps(damaged))
        except ScheduleError:
            continue
        taken.follow({WEB: DAILY}, at("24 10:00"))
        taken.due(at("24 10:00"))
        taken.next_at(at("24 10:00"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "jobs": {}}',
        "[" * 100_000,
        " " * 300_000,
        '{"version": 1, "jobs": {"": 1}}',
    ],
)
def test_what_is_no_state_is_refused(text: str) -> None:
    """Other versions, other programs' texts and what is too long are refused."""
    with pytest.raises(ScheduleError, match="the schedule's kept state is damaged: "):
        Calendar.from_json(text)


@settings(max_examples=50)
@given(
    st.datetimes(datetime(1960, 1, 1), datetime(2300, 1, 1)), st.datetimes(datetime(1960, 1, 1), datetime(2300, 1, 1))
)
def test_any_two_times_do_no_harm(first: datetime, second: datetime) -> None:
    """A clock that shows anything makes at most one run a look, and can be previewed."""
    calendar = Calendar()
    calendar.follow({WEB: DAILY}, first.replace(tzinfo=UTC))

    assert len(calendar.preview(first.replace(tzinfo=UTC), second.replace(tzinfo=ZURICH))) <= 2
    assert len(calendar.due(second.replace(tzinfo=ZURICH))) <= 1
    assert calendar.due(second.replace(tzinfo=ZURICH)) == []
    Calendar.from_json(calendar.to_json())


def test_a_week_and_more_passed_over_is_made_good() -> None:
    """Of a plan with one day in the week, the run of six days ago is still owed."""
    calendar = calendar_of(RestartPlan(1, 2, 0))

    assert days(calendar, "2026-12-05 12:00") == ["2026-12-05 12:00: 29"]


def test_a_clock_that_goes_back_while_a_job_runs_is_followed() -> None:
    """What comes due after the jump, while the job still runs, is not lost."""
    calendar = calendar_of(DAILY)
    days(calendar, "24 02:00", "28 01:00")
    assert calendar.due(at("25 12:00"), busy={WEB}) == []

    assert days(calendar, "26 03:00") == ["26 03:00: 26"]


def test_a_date_that_the_zone_has_skipped_runs_with_the_next() -> None:
    """Apia had no 30 December 2011: at midnight one run counts for both dates, and none of them comes again."""
    apia = ZoneInfo("Pacific/Apia")
    calendar = Calendar()
    calendar.follow({WEB: RestartPlan(127, 0, 0)}, at("2011-12-29 12:00", apia))
    assert [run.day.day for run in calendar.due(at("2011-12-31 00:00", apia))] == [31]
    assert calendar.due(at("2011-12-29 12:00", apia)) == []

    assert calendar.due(at("2011-12-31 12:00", apia)) == []


@pytest.mark.parametrize("jobs", [85, 200])
def test_what_is_kept_is_never_longer_than_what_is_read(jobs: int) -> None:
    """Years of a plan of some weekdays, for many jobs, are kept whole; what has run is known after the next start."""
    plan = RestartPlan.parse("mon,wed,fri 02:00")
    calendar = Calendar()
    calendar.follow({f"backup schedule number {number}": plan for number in range(jobs)}, at("2026-11-23 10:00"))
    one = Calendar()  # of many jobs of one plan: what it has done, all of them have
    one.follow({"backup": plan}, at("2026-11-23 10:00"))
    for day in range(1, 900):
        one.due(at("2026-11-23 10:00") + timedelta(days=day))
    for diary in calendar._diaries.values():
        diary.ran = dict(one._diaries["backup"].ran)
    for name in calendar.names:
        calendar.outcomes[name] = Outcome("2026-11-23T02:00:00+01:00", "2026-11-23T02:00:00+01:00", 'ü"' * 150)
    kept = calendar.to_json()
    again = Calendar.from_json(kept)

    assert len(kept) <= MOST_STATE
    assert {name: diary.ran for name, diary in again._diaries.items()} == {
        name: diary.ran for name, diary in calendar._diaries.items()
    }


def test_days_without_any_pattern_give_way_where_there_is_no_room() -> None:
    """The days that are nearest to now are kept; nothing is refused at the next start."""
    calendar = Calendar()
    calendar.follow({f"job {number}": DAILY for number in range(200)}, at("23 10:00"))
    today = at("23 10:00").toordinal()
    for place, diary in enumerate(calendar._diaries.values()):
        odd = [day for day in range(today - 366, today) if (day * day + place) % 5 in (0, 3)]
        diary.ran = {day: (day * 7 + place) % 1440 for day in odd}
    kept = calendar.to_json()
    again = Calendar.from_json(kept)

    assert len(kept) <= MOST_STATE
    for name, diary in calendar._diaries.items():
        near = {day: minute for day, minute in diary.ran.items() if day > today - 14}
        assert near.items() <= again._diaries[name].ran.items()


def test_old_spans_are_read() -> None:
    """What an earlier version has kept, spans of days without a step, is read as it was."""
    calendar = calendar_of(DAILY)
    kept = json.loads(calendar.to_json())
    kept["jobs"][WEB]["ran"] = {"02:00": [[739000, 739002], [739004, 739004]]}

    assert Calendar.from_json(json.dumps(kept))._diaries[WEB].ran == dict.fromkeys(
        (739000, 739001, 739002, 739004), 120
    )


def test_the_bound_is_the_databases() -> None:
    """What the schedule may write is what the database keeps."""
    assert MOST_STATE == schema.MOST_STATE
