from __future__ import annotations

from ipaddress import ip_network

import pytest

from callisto_telnetd.accounts.gatekeeper import Gatekeeper
from callisto_telnetd.accounts.penalties import TooManyFailuresError
from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.errors import LoginRefusedError
from tests.accounts.monotonic import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


def test_a_place_is_given_back_exactly_once() -> None:
    """Releasing twice, before or after the log-in, leaves the counts as they were."""
    gate = Gatekeeper(sessions=10, sessions_per_source=5, pending=5)
    first, second = gate.admit("192.0.2.7"), gate.admit("192.0.2.7")
    assert (gate.sessions, gate.pending) == (2, 2)

    first.logged_in()
    first.logged_in()
    assert (gate.sessions, gate.pending) == (2, 1)
    first.release()
    first.release()
    assert (gate.sessions, gate.pending) == (1, 1)
    second.release()
    second.logged_in()
    assert (gate.sessions, gate.pending) == (0, 0)
    assert not gate._per_source


def test_one_place_of_all_is_kept_for_loopback() -> None:
    """A flood from outside never takes the last session; 127.0.0.1 and ::1 may."""
    gate = Gatekeeper(sessions=3, sessions_per_source=10, pending=10)
    for number in (1, 2):
        gate.admit(f"192.0.2.{number}").logged_in()

    with pytest.raises(LoginRefusedError, match=r"^Refused: all 3 sessions are taken\. Try again later\.$"):
        gate.admit("192.0.2.3")
    gate.admit("::1")
    with pytest.raises(LoginRefusedError, match="all 3 sessions"):
        gate.admit("127.0.0.1")


def test_one_place_before_the_login_is_kept_for_loopback() -> None:
    """Connections that never log in cannot keep the administrator at the box from logging in."""
    gate = Gatekeeper(sessions=100, sessions_per_source=100, pending=3)
    for _ in range(2):
        gate.admit("192.0.2.1")

    with pytest.raises(LoginRefusedError, match=r"^Refused: 3 others are about to log in\. Try again later\.$"):
        gate.admit("192.0.2.1")
    for _ in range(3):
        gate.admit("127.0.0.1")  # the others give way to it
    with pytest.raises(LoginRefusedError, match=r"^Refused: 3 others are about to log in\. Try again later\.$"):
        gate.admit("127.0.0.1")


def test_a_source_has_its_own_limit() -> None:
    """One source fills its own share, and leaves the others'; a refusal takes no place."""
    gate = Gatekeeper(sessions=100, sessions_per_source=2, pending=100)
    places = [gate.admit("2001:db8::1"), gate.admit("2001:db8::2")]

    with pytest.raises(LoginRefusedError, match=r"^Refused: all 2 sessions from 2001:db8::/64 are taken"):
        gate.admit("2001:db8::3")
    assert gate.sessions == 2
    gate.admit("192.0.2.7")
    places[0].release()
    gate.admit("2001:db8::3")


def test_the_only_place_is_told_in_the_singular() -> None:
    """A limit of one reads as one, for all sessions and for those of a source."""
    gate = Gatekeeper(sessions=100, sessions_per_source=1, pending=100)
    gate.admit("192.0.2.1")
    with pytest.raises(LoginRefusedError, match=r"^Refused: the only session from 192\.0\.2\.1 is taken\. Try"):
        gate.admit("192.0.2.1")
    gate = Gatekeeper(sessions=1, sessions_per_source=10, pending=100)
    gate.admit("127.0.0.1")
    with pytest.raises(LoginRefusedError, match=r"^Refused: the only session is taken\. Try again later\.$"):
        gate.admit("127.0.0.1")


def test_a_limit_of_one_lets_one_in() -> None:
    """Where the owner allows a single session, the kept place does not turn everybody away."""
    gate = Gatekeeper(sessions=1, sessions_per_source=1, pending=1)

    gate.admit("192.0.2.7")
    with pytest.raises(LoginRefusedError):
        gate.admit("192.0.2.8")


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::5", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("192.0.2.7", False),
        ("2001:db9::5", False),
        ("127.0.0.2", False),
        ("not an address", False),
    ],
)
def test_only_the_networks_that_are_allowed_may_connect(address: str, admitted: bool) -> None:
    """The owner's networks and loopback get in, IPv4 in IPv6 form too; others are told why not."""
    allow = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    gate = Gatekeeper(sessions=10, sessions_per_source=10, pending=10, allow=allow)

    if admitted:
        gate.admit(address)
        return
    with pytest.raises(LoginRefusedError) as refused:
        gate.admit(address)
    assert str(refused.value) == f"Refused: {address} is not in a network that may connect."


def test_a_source_that_has_to_wait_gets_no_place(clock: FakeClock) -> None:
    """Penalties hold at the door already, and before the limits: a guesser takes no place."""
    gate = Gatekeeper(sessions=10, sessions_per_source=10, pending=10, now=clock)
    for _ in range(5):
        gate.penalties.failed(source_of("2001:db8::1"))

    with pytest.raises(TooManyFailuresError):
        gate.admit("2001:db8::ffff")
    assert gate.sessions == 0
    clock.now += 30
    gate.admit("2001:db8::ffff")
