"""How soon a service is started again."""

from __future__ import annotations

from callisto_telnetd.services.pace import Pace, Tries

PACE = Pace(settled_s=30.0, most_pause_s=60.0, most_early=5)


def test_pauses_double_up_to_the_longest() -> None:
    """Each early end doubles the pause before the next start, up to the longest, and never below the first."""
    tries = Tries(PACE)
    pauses = []
    for _ in range(6):
        tries.count(29.9)
        pauses.append(tries.pause_s(5.0))

    assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert tries.pause_s(90.0) == 90.0


def test_five_early_ends_in_a_row_use_the_tries_up() -> None:
    """A process that has worked long enough ends the row; without one the service is failed."""
    tries = Tries(PACE)
    for worked_s in (0.0, 0.0, 0.0, 0.0, 30.0, 0.0, 0.0, 0.0, 0.0):
        tries.count(worked_s)
        assert not tries.used_up
    tries.count(0.0)

    assert tries.used_up


def test_a_start_by_hand_begins_anew() -> None:
    """What was used up at once, and told, is forgotten when an administrator starts the service."""
    tries = Tries(PACE)
    tries.use_up()
    tries.told = True
    assert tries.used_up

    tries.forget()

    assert not tries.used_up
    assert not tries.told
