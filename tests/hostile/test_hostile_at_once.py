"""The measure of what is promised at once."""

from __future__ import annotations

import pytest

from tests.hostile.at_once import await_at_once, require_at_once


async def _next_of(times: list[float]) -> float:
    return times.pop(0)


async def test_what_is_slow_each_time_is_seen() -> None:
    """Nine tenths of a second are not at once, however often they are tried."""
    with pytest.raises(AssertionError):
        require_at_once(lambda: 0.9)
    with pytest.raises(AssertionError):
        await await_at_once(lambda: _next_of([0.31]))


async def test_a_busy_moment_does_not_matter() -> None:
    """One try in time is enough, and no more are made than that; what is waited for on purpose is no delay."""
    times = [0.9, 5.0, 0.29, 0.1]
    require_at_once(lambda: times.pop(0))
    await await_at_once(lambda: _next_of([0.79]), 0.5)
    assert times == [0.1]
