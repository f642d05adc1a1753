"""Restart plans: how they are read, and when they run, also where the clock is changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.variables import RestartPlan

ZURICH = ZoneInfo("Europe/Zurich")
PLANS = st.builds(RestartPlan, st.integers(0, 127), st.integers(0, 23), st.integers(0, 59))
NO_PLANS = [
    "", " ", "9", "02:00", "9,", ",02:00", "128,02:00", "-1,02:00", "9,24:00", "9,02:60", "9,2", "9,02:0", "9,02:00:00",
    "su 02:00", "sundays 02:00", "sun-02:00", "sun- 02:00", "mon-tue-wed 02:00", "9,sun 02:00", "1e1,02:00",
    "\u0669,02:00", "9,\uff102:00", "sun 02:00 daily", "sun " * 100 + "02:00", "9,02:00\x00",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("9,02:00", "9,02:00"),
        ("9, 2:00", "9,02:00"),
        ("009,02:00", "9,02:00"),
        ("0,00:00", "0,00:00"),
        ("127,23:59", "127,23:59"),
        ("sun,wed 02:00", "9,02:00"),
        ("Sunday WEDNESDAY 2:00", "9,02:00"),
        ("wed, sun, wed 02:00", "9,02:00"),
        ("tues,thurs 4:30", "20,04:30"),
        ("daily 02:00", "127,02:00"),
        ("mon-fri 02:00", "62,02:00"),
        ("mon - fri 02:00", "62,02:00"),
        ("fri-mon 02:00", "99,02:00"),
        ("sat-sun,wed 02:00", "73,02:00"),
        ("sun-sat 02:00", "127,02:00"),
        ("mon-mon 02:00", "2,02:00"),
    ],
)
def test_a_plan_is_taken_as_numbers_and_as_names(text: str, written: str) -> None:
    """Whatever way a plan is typed, it is kept as the appliance writes it."""
    assert RestartPlan.parse(text).format() == written


@pytest.mark.parametrize("text", NO_PLANS)
def test_anything_else_is_no_plan(text: str) -> None:
    """A text that means no plan is a ValueError."""
    with pytest.raises(ValueError):
        RestartPlan.parse(text)


@given(PLANS)
def test_every_plan_survives_its_text(plan: RestartPlan) -> None:
    """parse(format(v)) == v."""
    assert RestartPlan.parse(plan.format()) == plan


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (9, "Sunday and Wednesday at 02:05"),
        (1, "Sunday at 02:05"),
        (42, "Monday, Wednesday and Friday at 02:05"),
        (127, "every day at 02:05"),
        (0, "never: no day is chosen"),
    ],
)
def test_a_plan_is_told_in_words(days: int, words: str) -> None:
    """The days are named in the order of their values."""
    assert RestartPlan(days, 2, 5).describe() == words


@pytest.mark.parametrize(
    ("plan", "after", "run"),
    [
        # an ordinary week: 2026-11-23 is a Monday
        ("9,02:00", "2026-11-23T10:15:00+01:00", "2026-11-25T02:00:00+01:00"),
        ("9,02:00", "2026-11-25T01:59:59+01:00", "2026-11-25T02:00:00+01:00"),
        ("9,02:00", "2026-11-25T02:00:00+01:00", "2026-11-29T02:00:00+01:00"),
        ("2,10:15", "2026-11-23T10:15:00+01:00", "2026-11-30T10:15:00+01:00"),
        # spring: on 2026-03-29 the clock goes from 02:00 to 03:00
        ("1,02:00", "2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00"),
        ("1,02:30", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("1,02:59", "2026-03-29T03:00:00+02:00", "2026-04-05T02:59:00+02:00"),
        ("1,03:00", "2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00"),
        ("1,01:59", "2026-03-29T01:30:00+01:00", "2026-03-29T01:59:00+01:00"),
        # autumn: on 2026-10-25 the clock goes from 03:00 back to 02:00
        ("1,02:30", "2026-10-25T02:29:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("1,02:30", "2026-10-25T02:30:00+02:00", "2026-11-01T02:30:00+01:00"),
        ("1,02:30", "2026-10-25T02:29:00+01:00", "2026-11-01T02:30:00+01:00"),
        ("1,02:00", "2026-10-25T01:59:59+02:00", "2026-10-25T02:00:00+02:00"),
        ("1,03:00", "2026-10-25T02:59:59+02:00", "2026-10-25T03:00:00+01:00"),
        ("127,02:30", "2026-10-25T02:45:00+02:00", "2026-10-26T02:30:00+01:00"),
    ],
)
def test_a_plan_runs_in_zurich_when_its_owner_expects(plan: str, after: str, run: str) -> None:
    """A time skipped in spring runs at the end of the gap; one that comes twice in autumn runs the first time."""
    begin = datetime.fromisoformat(after).astimezone(ZURICH)
    next_run = RestartPlan.parse(plan).next_run(begin)

    assert next_run is not None
    assert next_run.isoformat() == run
    assert next_run.tzinfo is ZURICH


@pytest.mark.parametrize(
    ("zone", "plan", "after", "run"),
    [
        ("Asia/Beirut", "127,00:00", "2021-03-27T12:00:00+02:00", "2021-03-28T01:00:00+03:00"),  # midnight is skipped
        ("Pacific/Apia", "32,02:00", "2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00"),  # so is a whole Friday
        ("Australia/Lord_Howe", "1,02:15", "2026-10-04T01:00:00+10:30", "2026-10-04T02:30:00+11:00"),  # by half an hour
        ("America/Havana", "1,00:30", "2026-11-01T00:45:00-04:00", "2026-11-08T00:30:00-05:00"),  # midnight comes twice
    ],
)
def test_a_plan_runs_where_clocks_change_oddly(zone: str, plan: str, after: str, run: str) -> None:
    """Gaps at midnight, of a day and of half an hour follow the same rule."""
    next_run = RestartPlan.parse(plan).next_run(datetime.fromisoformat(after).astimezone(ZoneInfo(zone)))

    assert next_run is not None
    assert next_run.isoformat() == run


@given(PLANS, st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))
def test_the_next_run_is_the_first_one_later(plan: RestartPlan, instant: datetime) -> None:
    """The next run is later, within eight days, on a day of the plan, and asking just before it gives it again."""
    run = plan.next_run(instant.astimezone(ZURICH))

    if run is None:
        assert plan.days == 0
        return
    assert timedelta(0) < run.astimezone(UTC) - instant <= timedelta(days=7, hours=1)
    assert plan.days >> run.isoweekday() % 7 & 1
    assert plan.next_run((run.astimezone(UTC) - timedelta(microseconds=1)).astimezone(ZURICH)) == run


def test_a_plan_without_days_never_runs() -> None:
    """No day chosen means no next run."""
    assert RestartPlan(0, 2, 0).next_run(datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_the_last_days_of_the_calendar_have_no_next_run() -> None:
    """A clock set to the end of Python's calendar is no error."""
    west = timezone(timedelta(hours=-12))

    assert RestartPlan(127, 0, 0).next_run(datetime(9999, 12, 31, 23, tzinfo=west)) is None


def test_a_time_without_zone_is_refused() -> None:
    """What wall time means is known only with a zone."""
    with pytest.raises(ValueError, match="zone"):
        RestartPlan(1, 2, 0).next_run(datetime(2026, 1, 1))


@pytest.mark.parametrize("parts", [(128, 0, 0), (-1, 0, 0), (1, 24, 0), (1, 0, 60)])
def test_a_plan_out_of_range_cannot_be_made(parts: tuple[int, int, int]) -> None:
    """A plan that exists can always be written and read again."""
    with pytest.raises(ValueError, match="restart plan"):
        RestartPlan(*parts)
