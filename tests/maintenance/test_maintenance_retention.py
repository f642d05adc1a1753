from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.maintenance.retention import Dated, Keep, surplus

NOW = datetime(2026, 11, 23, 12)


def backups(*days_ago: float) -> list[Dated]:
    """Return a backup for each age in days, named by it."""
    return [Dated(f"{age:g}", NOW - timedelta(days=age)) for age in days_ago]


def names(found: list[Dated]) -> list[str]:
    """Return their names."""
    return [each.name for each in found]


@pytest.mark.parametrize(
    ("keep", "gone"),
    [
        (Keep(), []),
        (Keep(last=2), ["30", "14", "8", "7.2", "7", "1.2"]),
        (Keep(last=8), []),
        (Keep(daily=3), ["30", "14", "8", "7.2", "1.2"]),  # of yesterday the newer one, and that of a week ago
        (
            Keep(weekly=2),
            ["30", "14", "8", "7.2", "7", "1.2"],
        ),  # the 23rd is a Monday: yesterday belongs to the week before
        (Keep(last=1, weekly=5), ["14", "7.2", "7", "1.2"]),
    ],
)
def test_what_one_rule_keeps_stays(keep: Keep, gone: list[str]) -> None:
    """The newest, the newest of each day and of each week stay; the rest goes, the oldest first."""
    assert names(surplus(backups(0, 1, 1.2, 7, 7.2, 8, 14, 30), keep, NOW, ())) == gone


def test_a_good_one_never_goes() -> None:
    """Whatever the rules say, a name that is said to be good stays."""
    assert names(surplus(backups(0, 1, 2), Keep(last=1), NOW, {"2"})) == ["1"]


def test_a_time_to_come_is_older_than_all_others() -> None:
    """A clock that was wrong for a day does not make its backup the newest for ever."""
    assert names(surplus(backups(-400, 0, 1), Keep(last=2), NOW, ())) == ["-400"]


@given(
    st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)), max_size=60),
    st.builds(Keep, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
)
def test_no_rule_leaves_less_than_it_says(times: list[datetime], keep: Keep) -> None:
    """Of each rule so many are left as it says, or all that there were; asking again takes nothing more."""
    every = [Dated(str(place), at) for place, at in enumerate(times)]
    gone = set(names(surplus(every, keep, NOW, ())))
    left = [each for each in every if each.name not in gone]

    days, weeks = {each.at.date() for each in left}, {each.at.isocalendar()[:2] for each in left}
    assert len(left) >= min(keep.last, len(every))
    assert len(days) >= min(keep.daily, len({each.at.date() for each in every}))
    assert len(weeks) >= min(keep.weekly, len({each.at.isocalendar()[:2] for each in every}))
    assert surplus(left, keep, NOW, ()) == []
