"""Ten simulated years, held against an oracle that shares no code with the schedule."""

from __future__ import annotations

import time

import pytest

from tests.services.calendar_years import expected, legs, live

SEEDS = range(100, 140)


def test_two_years_of_jumps_run_each_plan_once_on_each_of_its_days() -> None:
    """Clock set both ways, off, zones, plans, years by mistake: what runs is what the oracle says, no more, no less."""
    life = list(legs(7, years=2))

    assert live(life).runs == expected(life)


def test_ten_years_take_less_than_ten_seconds() -> None:
    """Ten years with every jump are simulated in under ten seconds."""
    life = list(legs(11))
    begun = time.monotonic()
    runs = live(life).runs
    assert time.monotonic() - begun < 10

    assert len(runs) > 1000


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_ten_years_of_jumps_run_each_plan_once_on_each_of_its_days(seed: int) -> None:
    """Forty lives of ten years: exactly once on each day of each plan."""
    life = list(legs(seed))

    assert live(life).runs == expected(life)
