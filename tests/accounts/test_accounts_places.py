from __future__ import annotations

import pytest

from callisto_telnetd.accounts.gatekeeper import Gatekeeper, Place
from callisto_telnetd.accounts.places import Progress
from callisto_telnetd.errors import LoginRefusedError
from tests.accounts.monotonic import FakeClock

FULL = r"^Refused: 32 others are about to log in\. Try again later\.$"
HERE, THIRD, KNOWN = "127.0.0.1", "192.0.2.77", "192.0.2.8"


class Door:
    """A gatekeeper with the usual limits, and whose connections it has ended."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.gate = Gatekeeper(sessions=100, sessions_per_source=20, pending=32, now=self.clock)
        self.ended: list[str] = []

    def admit(self, address: str, progress: Progress = Progress.SILENT, name: str = "") -> Place:
        """Let somebody in, who comes so far; ``name`` is what he is called where he is ended."""
        place = self.gate.admit(address, lambda: self.ended.append(name or address))
        place.note(progress)
        return place

    def crowd(self, sources: int, each: int, progress: Progress = Progress.SILENT) -> None:
        """Let many in, of so many sources, in turn."""
        for number in range(each):
            for source in range(sources):
                self.admit(f"198.51.100.{source}", progress, f"{source}/{number}")


@pytest.fixture
def door() -> Door:
    """Nobody has come yet."""
    return Door()


def test_two_sources_cannot_take_all_places(door: Door) -> None:
    """A source has a quarter of the places, so that two leave half of them; this machine has no such bound."""
    door.crowd(2, 8)
    for source in (0, 1):
        with pytest.raises(LoginRefusedError, match=rf"^Refused: 8 others from 198\.51\.100\.{source} are about to "):
            door.admit(f"198.51.100.{source}")
    for _ in range(10):
        door.admit(HERE)

    assert door.gate.pending == 26
    assert door.ended == []


def test_the_oldest_silent_one_of_the_busiest_source_gives_way(door: Door) -> None:
    """A newcomer gets the place of the one who has been silent longest, of the busiest source."""
    door.crowd(3, 8)
    for number in range(7):
        door.admit(KNOWN, name=f"fourth/{number}")
    for _ in range(5):
        door.admit(THIRD)

    assert door.ended == ["0/0", "1/0", "2/0", "0/1", "1/1"]
    assert door.gate.pending == 31


def test_who_has_given_his_name_gives_way_after_the_silent(door: Door) -> None:
    """Of one source the silent go first, then those who have given a name; whose password is checked is left alone."""
    for progress in (Progress.CHECKED, Progress.NAMED, Progress.SILENT):
        door.admit("198.51.100.0", progress, progress.name)
    for number in range(28):
        door.admit(f"192.0.2.{100 + number}", Progress.NAMED)
    door.admit(THIRD)
    assert door.ended == ["SILENT"]
    with pytest.raises(LoginRefusedError, match=FULL):
        door.admit(THIRD)
    door.admit("192.0.2.10")
    assert door.ended == ["SILENT", "NAMED"]
    with pytest.raises(LoginRefusedError, match=FULL):
        door.admit("192.0.2.11")


def test_who_says_nothing_for_ten_seconds_gives_way_to_anybody(door: Door) -> None:
    """A silent connection each of many addresses shuts nobody out for longer than ten seconds."""
    door.crowd(31, 1)
    with pytest.raises(LoginRefusedError, match=FULL):
        door.admit(THIRD)
    door.clock.now += 10
    door.admit(THIRD, Progress.NAMED)
    assert door.ended == ["0/0"]


def test_idle_connections_of_this_machine_leave_places_to_all(door: Door) -> None:
    """A local user who sits on connections keeps out neither strangers nor the administrator at the box."""
    door.gate = Gatekeeper(sessions=100, sessions_per_source=40, pending=32, now=door.clock)
    for number in range(32):
        door.admit(HERE, name=str(number))
    assert door.ended == ["0", "1"]
    door.admit(THIRD)
    door.admit("::1")
    assert door.ended == ["0", "1", "2"]
    assert door.gate.pending == 31


def test_a_name_without_a_password_holds_a_place_for_twenty_seconds(door: Door) -> None:
    """One connection each of 31 addresses that sends a name, or has failed, shuts nobody out for longer."""
    door.crowd(31, 1, Progress.NAMED)
    door.clock.now += 19
    with pytest.raises(LoginRefusedError, match=FULL):
        door.admit(THIRD)
    door.clock.now += 1
    door.admit(THIRD)
    assert door.ended == ["0/0"]


def test_two_of_a_known_address_do_not_give_way_to_a_stranger(door: Door) -> None:
    """Administrators behind one address that somebody has logged in from keep their places before strangers."""
    door.gate.standings.remember(KNOWN)
    for _ in range(2):
        door.admit(KNOWN, Progress.NAMED)
    door.crowd(29, 1, Progress.NAMED)
    with pytest.raises(LoginRefusedError, match=FULL):
        door.admit(THIRD)
    assert door.ended == []


def test_a_source_s_own_silent_connections_give_way_to_its_next(door: Door) -> None:
    """Half-open connections that a sleeping machine has left do not shut the same address out."""
    door.crowd(1, 8)
    door.clock.now += 10
    door.admit("198.51.100.0")
    assert door.ended == ["0/0"]


def test_strangers_who_are_checked_give_way_to_whom_the_appliance_knows(door: Door) -> None:
    """A flood that guesses keeps neither this machine nor a known source out; strangers have the places of guessers."""
    door.crowd(31, 1, Progress.CHECKED)
    door.gate.standings.remember(KNOWN)
    with pytest.raises(LoginRefusedError, match=FULL):
        door.admit(THIRD)
    door.gate.penalties.failed("198.51.100.5")
    door.admit(THIRD)
    door.admit(KNOWN)
    for _ in range(3):
        door.admit(HERE)

    assert door.ended == ["5/0", THIRD, "0/0", "1/0"]
    assert door.gate.pending == 32


def test_nobody_takes_a_place_of_this_machine(door: Door) -> None:
    """However long the administrator at the box takes to type, a flood from outside does not end his log-in."""
    for _ in range(20):
        door.admit(HERE, name="here")
    door.crowd(11, 1)
    door.clock.now += 50
    for number in range(40):
        door.admit(f"203.0.113.{number}")
        door.clock.now += 10

    assert "here" not in door.ended


def test_a_place_that_was_given_up_is_not_given_back_again(door: Door) -> None:
    """The end of a connection that gave way frees its session alone: its place is somebody else's."""
    door.crowd(4, 8 - 1)
    places = [door.admit("198.51.100.0"), *(door.admit(f"192.0.2.{number}") for number in range(3))]
    door.clock.now += 10
    door.admit(THIRD)
    assert door.gate.pending == 31
    assert door.gate.sessions == 33
    for place in places:
        place.release()

    assert door.gate.pending == 27
    assert door.gate.sessions == 29
